"""The loader of YAML that knows plain values only; apart, since most commands read no YAML and loading it takes a moment."""

from typing import Any

from yaml import AliasEvent, SafeLoader, YAMLError

__all__ = ["Loader", "YAMLError"]


class Loader(SafeLoader):
    """Plain values only, and each written out: nine lines of aliases to aliases are a billion values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(AliasEvent):
            raise YAMLError(f"an alias (*{self.peek_event().anchor[:40]}) is not read here; write the value out")
        return super().compose_node(parent, index)
