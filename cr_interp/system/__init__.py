"""The machine beneath: what a terminal shows, names, disks, signals, text files, where the packages lie. No torch.

names       what studies, arms, tasks and folders may be called          shown      text that a terminal shows as it is
text_files  one reader of text, whatever its encoding                    notes      what is said once, beside the results
disk        full, read-only: told by errno                               digests    what a result was made of
stopping    Ctrl-C, SIGTERM, a parent that is gone                       hub        what went wrong on the hub, in a sentence
house       where ``training`` and ``app`` lie                           workbench  open it from anywhere
lazily      public names of a package, loaded late                       former     addresses of the first edition
unpacked    reading Parquet, and how much memory that takes              time_limit ends somebody's code that takes too long
endpoint    a server that speaks OpenAI's chat protocol                  plain_yaml YAML as plain values
visible     text without characters that act                             percent    a share as text
leaving     a short command's end
"""
