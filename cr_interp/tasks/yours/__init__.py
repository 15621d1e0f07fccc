"""Tasks of your own: prompts in a file, a description in YAML, a Python file; and the published ones, described the same way.

Mental model: rows come in (``sources``, ``local_rows``), become examples (``asked_rows``), and are graded by what data can say
(``grading``: by form, by a judge, by code of the user's own). A name in a description means a file beside it; code runs only if a
person has just named it.

    described   a task in YAML          own        prompts and a context, without a description
    own_code    a task in Python        each_own   contexts that rows bring along
    grading     which grader            new        the folder of ``cr-interp new-task``
    form_graders, judge                 by a pattern, a schema, a language; by a model behind an address
"""
