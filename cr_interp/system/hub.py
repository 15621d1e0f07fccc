"""What to do when the hub does not give something: one explanation for models and data sets.

Mental model: the libraries between us and the hub wrap each other's exceptions, and keep what matters (gated? missing? no
network?) in the type of one and the words of another. So the whole chain is looked at.
"""

from typing import Literal

#: Types and words that mean: nobody could be asked.
UNREACHED = ("LocalEntryNotFound", "Offline", "Connect", "connection error", "Timeout", "resolve host")


def hub_problem(
    error: BaseException, kind: Literal["model", "dataset"], name: str, instead: str, revision: str | None = None
) -> str | None:
    """Say why the hub's ``kind`` called ``name`` was not to be had, and what to do; ``instead`` is one more way.

    None for whatever is not the hub's doing.
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    types = " ".join(type(each).__name__ for each in chain)
    text = " ".join(map(str, chain))
    said = " ".join(str(error).split())[:300]
    if "GatedRepoError" in types or "gated dataset" in text or "gated repo" in text:
        where = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
        return (
            f"{name} is gated: its owner lets only people in who have asked. Ask on {where}, then log in here with "
            f"`hf auth login`. ({said})"
        )
    missing = ("DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError")
    if any(each in types for each in missing) or "not a valid model identifier" in text:
        return (
            f"The hub has no {kind} {name}{f' at revision {revision}' if revision else ''}, or it is private. Check the name; "
            f"for a private one log in with `hf auth login`; or {instead}. ({said})"
        )
    networks = any(isinstance(each, ConnectionError | TimeoutError) for each in chain)
    if networks or any(word in f"{types} {said}" for word in UNREACHED):
        return (
            f"{name} is neither on this machine nor within reach: the hub did not answer ({said}). Connect to the network (and "
            f"unset HF_HUB_OFFLINE), or load it once where there is one, or {instead}."
        )
    return None
