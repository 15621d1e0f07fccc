"""A study as text: its table for the terminal, as Markdown and as JSON, and as one file to send.

Mental model: numbers come from :mod:`cr_interp.tables` and figures from :mod:`cr_interp.figures`; here they get words. What a
command prints and what a report holds is the same text.

    study, suite              what ``cr-interp table`` prints
    mechanism, heads, trained what ``cr-interp explain`` prints
    case_study                what ``cr-interp case-study`` writes
    verdict, limits           what two arms' difference says, and what it does not
    sending                   the file of ``cr-interp report``: ``sections`` in order, as a ``page`` or an ``appendix``
    flips, why, settings      some of its sections: answers that flip, mechanism, the manifest; made of ``parts``
    read_once                 a study's tables, each read once for all of them
"""
