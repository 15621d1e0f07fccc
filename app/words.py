"""The words of the app, explained once, and text from files made safe for Markdown.

Every tooltip comes from :data:`GLOSSARY`, so a term means the same wherever it stands.
"""

import re

from cr_interp.vocabulary import EVERY_MEASURE

GLOSSARY = {
    "study": "One task, context, base model and teacher, with several arms and seeds, on disk.",
    "arm": "One training objective. base: the untrained model; opd: distillation alone; nca: opd plus No-Context "
    "Anchoring, which pulls the with-context view to the frozen no-context view.",
    "baseline": "The arm that the other one is compared with. Differences are paired: same examples, same seeds.",
    "harm_common": "Harm on the prompts that both arms answer right without the context: the same denominator for both.",
    "changed": "Share of prompts whose answer is another one when the context returns; of studies without an answer key.",
    "fidelity": "How far the arm's answers without the context are from the teacher's with it (KL, nats a token); 0: the same.",
    "invariance": "How far the arm's own two views are apart (KL, nats a token); 0: the context changes nothing. Deafness to "
    "every context lowers it too.",
    "new_instruction": "Share of answers that obey another instruction than the internalised one, given as the context. An arm "
    "that ignores every context is robust to the one it has learnt, and deaf.",
    "harm_irrelevant": "Harm when a text of equal length about nothing returns in the context's place: how far any "
    "context at all shakes the answers.",
    "control": "What is given as the context when it returns. exact: the one of training; paraphrase: the "
    "same in other words; mismatched: another task's; irrelevant: a text of equal length about nothing.",
    "context": "What the teacher sees and the student is trained to do without.",
    "acc_x": "Acc_x: share of examples answered right without the context.",
    "acc_xc": "Acc_xc: share of examples answered right with the context.",
    "both_correct": "BothCorrect: share of examples answered right in both views.",
    "harm": "Harm: of the examples answered right without the context, the share that is wrong once it returns.",
    "rescue": "Rescue: of the examples answered wrong without the context, the share that is right with it.",
    "agreement": "Agreement: share of examples whose answer stays the same when the context returns.",
    "delta_len": "Δlen: relative change of the mean response length (tokens) when the context returns.",
    "outcome": "right; wrong: an answer, but not the right one; unparsable: no answer found in the response; "
    "truncated: the response hit the length limit.",
    "regime": "A: the context makes the arm worse (Acc_xc below Acc_x, the across interval excludes 0); B: it still helps; "
    "C: the change is within 2 points; open: none of these can be said, as of a trained arm with one seed.",
    "drift": "How far a site's state moves when the context returns, at the aligned positions: those whose "
    "output predicts the response's tokens, which are the same ids in both views.",
    "lowest": "The layer where the two views differ most: lowest similarity (highest relative L2) of all layers, "
    "mean over seeds.",
    "cosine": "Mean cosine between a token's state with and without the context. Hidden states all point in "
    "similar directions, so unrelated tokens can reach 0.9: compare arms, and look at the other measures too.",
    "centred_cosine": "Cosine after removing each view's mean state: what all tokens share no longer counts.",
    "relative_l2": "Length of the movement over the length of the no-context state; 0 means identical.",
    "cka": "Debiased linear CKA: do the tokens keep their arrangement relative to each other? Blind to rotations "
    "and to a shift that is common to all tokens.",
    "cka_examples": "Debiased CKA between tokens of distinct examples only: the tokens of one response resemble each "
    "other in both views, which raises the row-level value.",
    "cosine_p5": "The cosine that 95 % of the tokens exceed.",
    "cosine_trimmed": "Cosine without the three dimensions that contribute most to it.",
    "procrustes": "Similarity after the rotation that fits best: 1 if the views differ by a rotation and a scale only. Measured "
    "under the exact context.",
    "top3_share": "The share of the cosine that three dimensions make. It describes what a similarity is made of, not how "
    "large the drift is.",
    "norm_ratio": "Length of the state with the context over that without; 1 means that no state grows or shrinks.",
    "shift_share": "How much of the movement is one shift common to all tokens (from 0 to 1). It describes the kind of "
    "movement, not its size.",
    "knn_overlap": "Of a token's 10 nearest neighbours among other examples' tokens, the share that stays the same; chance: "
    "what neighbours drawn at random would share.",
    "behind": "Measured like the curves. floor, dashed in each arm's colour: unrelated tokens; a curve near its floor "
    "says little. In grey, repeat: the same view once more, the numerical ceiling; and the other contexts.",
    "relative": "How many times as far the context moves a state as unrelated tokens at the same place lie apart, by the "
    "angle: 0, not moved; 1, as far as any other token. So it does not count that all states of a layer point in similar "
    "directions.",
    "recovered": "How much of the right answer returns when the state without the context is put into the run with it: 1 "
    "all of it, 0 nothing. The layer that moves most need not be the one that decides.",
    "group": "Which answers were patched. harmed: right without, wrong with the context; rescued: the reverse; kept: right in "
    "both; changed: of studies without an answer key.",
    "direction": "repair: the state without the context is put into the run with it; break: the reverse.",
    "readout": "share: of the difference of the logits of the right and the wrong token, where the two answers part; answer: "
    "the share of whole answers that follow.",
    "patched_cell": "An arm, a site and a layer. Click a cell of the heat map, or choose one here; at first the one that "
    "recovers most.",
    "mechanism": "Each question has its own analysis, controls and table. Where a table is missing, its tab gives the "
    "command that fills it.",
    "movement": "Draws 1 − measure on a logarithmic axis. 0.997 and 0.999 look the same on a linear axis, though "
    "1 − measure differs threefold. (1 − cosine is half a squared distance: that is 1.7 times as far.)",
    "layer": "emb: after the embedding; a number: the residual stream after that layer (resid_post).",
    "interval": "95 % interval, of one of two kinds. within: these runs, other examples (bootstrap over clusters of examples "
    "that belong together). across: other seeds (Student's t over the seeds' values). With one seed there is only the first.",
    "seeds": "Training runs that differ only in their random numbers. An arm that was run once, like base, always counts.",
    "map": "without × with: how far each layer without the context resembles each layer with it; its diagonal is the "
    "Layers page's CKA. within: the layers of one view among themselves. base × checkpoint: what training changed, "
    "both without the context.",
    "map_colour": "CKA, 0 to 1: one scale for all studies. 1 − CKA, log: tells maps apart that are all close to 1; "
    "differences become ratios.",
    "cell": "A cell is a pair of layers: one from the horizontal axis, one from the vertical axis.",
    "profile": "One row and one column of the map: each of the two layers against all layers of the other axis.",
    "token_drift": "How far the state that predicts a token moves when the exact context returns. The response is the "
    "one the arm gave without the context, the same ids in both views.",
    "token_measure": "cosine and relative L2: the state at one layer. output KL: how far the prediction itself moves, "
    "the KL divergence of the next-token distributions without and with the context.",
    "order": "Examples are sorted by this arm's response, by its farthest token or by the mean of its tokens, at the "
    "chosen layer; those that the context harms come first. The arrow keys go back and on.",
    "stretch": "Off: one scale for all examples, which ends where 99 % of the study's tokens lie. On: it ends at the "
    "farthest token shown, so that small movements are seen; colours of two examples then do not compare.",
    "align": "Responses are matched token by token: what two arms say alike stands in one column. Responses that share "
    "less than three quarters of their tokens are put side by side by position.",
    "case": "kept: right in both views; harmed: right without, wrong with the context; rescued: the reverse.",
    "error_kind": "Pairs in which at least one of the two responses failed in one of these ways.",
    "suite": "Several studies side by side, one for each setting: a task, a model family and a kind of teacher.",
    "claim": "What is counted. A setting counts where the claim can be asked: Harm is undefined where an arm is never "
    "right without the context, and one seed has no across interval. Holm: adjusted for there being several settings.",
    "ablation": "Other arms than the paper's, run in some settings: another weight β of the anchor, no stop-gradient, the "
    "reverse KL, or the teacher instead of the anchor. Their terms are in each study's Overview.",
    "early": "Evaluated on validation examples while the arms were trained; each setting counts once. A mean over settings "
    "that differ in kind can show what none of them does: look at single settings on the Training page.",
    "setting": "One study of the suite: a task, with a model family or a kind of teacher.",
    "of": "In how many settings the claim holds, of those in which it can be asked.",
    "n_pairs": "Pairs of responses, without and with the context, of all seeds.",
    "answers": "Each prompt with the responses of the two compared arms, without and with the context.",
    "speed": "Length of the gradient before it is clipped, tokens a second, and the memory of a step at its peak.",
    "pairs": "A card is a prompt with the responses of all chosen arms, without and with the context. Equal pairs stand once, "
    "with a chip for each seed.",
    "search": "Letters in the prompt, in either response or in the id; capitals do not matter.",
    "sort": "drift: how far the arm's farthest token moves at the last layer; output KL: the mean over its tokens; change of "
    "length: tokens more or fewer with the context. The largest come first.",
    "pins": "Pinned prompts come first and stand in the address, so that a link shows somebody else the same ones.",
    "example": "A prompt of the study, with the context that it was asked behind.",
    "only": "All pairs of one prompt: every seed and sample of the chosen arm.",
    "token_cell": "Click a cell of the figure, or choose its token here: at first the one that moves most at this layer.",
    "statistic": "A response moves as far as its farthest token, or as its tokens do on average.",
    "loss": "What is minimised, and the divergences that it is the weighted sum of, each without its weight, in nats per "
    "token. q_x, q_c: the student without and with the context; f: the teacher, which sees it; sg: no gradient.",
    "log_loss": "Losses fall over orders of magnitude; a logarithmic axis shows the small ones too.",
    "follow": "Looks every few seconds for new rows in the training logs and draws them; the tables of states and answers "
    "are made when a training is finished.",
    "evaluated": "During training, both views of a few validation examples are answered now and then, without intervals. "
    "Afterwards checkpoints answer the test examples, with intervals.",
    "step": "Updates of the weights so far. Arms that were not trained, as the base model, are the same at every step.",
    "checkpoint": "The model that answers: the study's base model, its checkpoints where they are on this machine, a built-in "
    "model, or a folder that you name.",
    "beside": "A second model, asked the same. Both need the same tokenizer, or their tokens cannot be set side by side.",
    "model_folder": "A Hugging Face checkpoint or PEFT adapter on the machine that runs this app. Only JSON and safetensors "
    "are read; pickled weights are refused and no code is run.",
    "prompt": "What the user says; both views have it.",
    "context_text": "A system message. Other contexts are written in blocks, each behind a line [system], [user] or "
    "[assistant]; after a line [prompt], the user message with {prompt} where the prompt goes. Empty: no context. At "
    "first it holds the text of the context control chosen on the left.",
    "without_context": "The ruler's zero: both views are then the same text, and nothing may move.",
    "token_limit": "Longest response, end of turn included.",
    "greedy": "Each next token is the likeliest one (greedy decoding). What only one of the two responses says is marked.",
    "sinks": "Attention sinks: tokens whose state is so large (norm above 5 × the median) that they alone decide a "
    "similarity. They are left out unless this is on.",
    "tour": "Each step is a page of the study that was looked at last.",
    "verdict": "Whether the first arm has less Harm than the second without losing accuracy, by the intervals over seeds. "
    "Deafer: it obeys a new instruction less often.",
    "lacks": "Tables that no analysis has filled yet, and checkpoints that are not on this machine. Each page gives the "
    "command that fills its table.",
    "compare": "Evaluates and captures checkpoints that exist already, and writes a study that this app opens.",
    "asked_on": "A built-in task grades the answers and knows its context; a file of prompts brings its own, with answers or "
    "without.",
    "lens_here": "The model's final norm and head applied to the state after every layer, at the first token in which the two "
    "answers differ: what the model would say if it ended there.",
    "mend": "The run with the context is changed at one layer while it writes its answer: the state without the context is put "
    "in, or the context's direction (with − without, mean over other prompts) is taken away or added. The answer is decoded, not "
    "scored.",
    "provenance": "What made this study: enough to make it again and to check that it is the same.",
}

MEASURE_HELP = "\n\n".join(
    f"**{words.name}**: {GLOSSARY.get(name, words.axis)}" for name, words in EVERY_MEASURE.items()
)

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:^=])")


def measure_name(measure: str) -> str:
    """Name a measure of drift; one that is not known keeps its own name."""
    return EVERY_MEASURE.get(measure, (measure,))[0]


def plain(text: object) -> str:
    """Write a text from a file for a place that reads Markdown: shown as it is, no links, images, colours or maths."""
    # An address would still become a link; an invisible word joiner stops that.
    text = re.sub(r"(?<=:)//|(?<=www)\.|(?<=\w)@", "\u2060\\g<0>", str(text))
    return _MARKDOWN.sub(r"\\\1", text).replace("\n", " ")
