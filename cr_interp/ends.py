"""From bootstrap replicates to an interval that is honest about a measure's bias and about few examples.

Mental model. A replicate of a mean scatters around the estimate, so its percentiles are an interval. A replicate of a squared
length (a common shift, HSIC) has the noise of one more draw in it: replicates lie *beside* the estimate, and their
percentiles may not even hold it. What can be learnt from them is how far they scatter around their own middle, so that is put
around the estimate. n draws from n units scatter by √((n−1)/n) too little, and quantiles do not account for how well n units
tell a scatter. So the percentiles are those that a normal distribution reaches at Student's t (Hesterberg 2015, the expanded
percentile interval). With 20 units these are 1.6 and 98.4 %, with 200 units 2.4 and 97.6 %. With fewer than ten units a tail
is not known at all: there the replicates' SD meets Student's t.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from cr_interp.statistics import interval, special

#: So few units, examples or clusters of them, that percentiles of their draws are too narrow.
FEW = 10


def ends(
    estimate: float,
    replicates: Float[ndarray, " replicates"],
    units: int,
    biased: bool = False,
    scale: float = 1.0,
) -> tuple[float, float]:
    """Return the 95 % interval; NaN with fewer than two units or no defined replicate. ``scale`` widens the scatter.

    The estimate is always within: where rounding is all that moves it, an end is the estimate.
    """
    replicates = np.asarray(replicates, dtype=float)
    defined = replicates[np.isfinite(replicates)]
    if units < 2 or not len(defined) or not np.isfinite(estimate):
        return float("nan"), float("nan")
    reach = special().stdtrit(units - 1, 0.975) * np.sqrt(units / (units - 1))
    if units < FEW:
        half = float(reach * defined.std() * scale)
        return estimate - half, estimate + half
    if biased:
        defined = estimate + (defined - np.median(defined)) * scale
    low, high = (float(end) for end in interval(defined, 1 - 2 * special().ndtr(-reach)))
    return min(low, estimate), max(high, estimate)
