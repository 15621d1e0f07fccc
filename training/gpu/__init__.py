"""What only a GPU can show, in one command: ``make gpu``, under ten minutes on one device.

    python -m training.gpu                      on this machine's device; without one it says so, and ends well
    python -m training.gpu --device cpu --tiny  the same code on a CPU and a tiny model, which a test runs

Mental model. Each part yields findings: a number, the limit that it has to keep (or none, where it only informs), and whether it
does (``parts.py``). They end up in one table and one JSON file (``findings.py``), which also says on what machine and with
which versions.

    check      sites, backends and kernels agree, in float32 and bfloat16, eager and SDPA
    capture    states are those of a plain forward, and what taking them costs
    step       a training step of opd and nca: peak of memory against the formula, tokens a second
    resume     a run that is stopped and continued ends where the unbroken one does
    processes  a run in two processes ends where one does (where there are two devices)
"""
