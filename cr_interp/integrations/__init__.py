"""What goes into somebody else's training script: ``training/integrations``, under an address that can be imported anywhere.

    from cr_interp.integrations.callback import watch     both views of a few examples, every N steps of any Trainer
    from cr_interp.integrations.trl import NCATrainer     No-Context Anchoring on TRL's self-distillation trainer

A script of one's own may have a package ``training``; so nothing here takes that name, and the path of imports stays as it is.
"""

from cr_interp.system.house import house

__path__ = [str(house() / "training" / "integrations")]
