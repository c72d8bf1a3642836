"""The numbers that are policy, with their sources. What a user may tune stands in params.yaml."""

import numpy as np

# Folds. Five hold out every target once. The choice of a correction or of alpha costs nothing, so
# its folds are drawn again until so many targets were held out: with nine, one draw decides much.
FOLDS = 5
MIN_TARGETS = 3
HELD_OUT_AT_LEAST = 50

# A fold of the fine-tune is a training, so there are few. With fewer targets than the first number
# five more draw the folds anew; from the second on three do: what they train on is plenty, and
# differences are clear.
TRAINED_HELD_OUT_AT_LEAST = 14
MANY_TARGETS, FOLDS_OF_MANY = 40, 3

# They are half as long as the training on all frames, and are left where the choice is settled:
# where the fine-tune's gain over targets held out lies, this surely, on one side of what anyone
# would notice. Not before so many targets were held out, of a session with fewer than
# TRAINED_HELD_OUT_AT_LEAST all of them: their errors are its headline.
FOLD_STEPS_SHARE = 0.5
SETTLED_SURELY, SETTLED_TARGETS, SETTLED_FOLDS = 0.995, 8, 2

# Two candidates whose mean errors are closer than this are as good, for nobody could tell them
# apart by using them: 0.05° is 2 pixels, the error itself tens.
ALIKE_DEG, ALIKE_SHARE = 0.05, 0.02

# A corrected base that magnifies the base's angles by more is nothing to fall back on. With the
# embedded base it does so by 2.2 to 4.3 (six simulated persons, nine targets), and what has 6° to
# 14° on its own day has 11° to 19° on another; with one that knows laptops it is about 1.
MAGNIFIED = 1.7

# Where it does not, it is left for a candidate with less than this share of its held-out error. A
# day costs such a correction 1.0° of 2.4° (six simulated persons, 50 targets), the others more: a
# probe with two thirds of its error was worse than it on another day, a fine-tune as good.
WORTH_A_DAY = 0.6

# The support vector regressors' grid, for angles scaled to a standard deviation of 1: costs, and γ
# of exp(-γ |u - v|²), from nearly a plane over the whole screen to a bend within a third of it.
SVR_COSTS, SVR_GAMMAS = (1.0, 10.0, 100.0), (0.03, 0.2, 1.0)
SVR_TOLERANCE = 0.05  # ε of the loss, about half a degree on a laptop's screen
SVR_SEED = 0  # of the folds that choose from the grid

# The linear probe's regularisation: half a decade apart; below 1e-5 nothing is regularised any
# more, above 10 the linear map vanishes.
ALPHAS: tuple[float, ...] = (*np.logspace(1, -5, 13).tolist(),)

# It is fitted to augmented samples too: so many of each frame, which the fine-tune draws anyway,
# and with the plain ones no more than the rows, for its cost grows with their cube. The share is
# the augmented ones' of a frame's weight.
PROBE_SAMPLES, PROBE_ROWS = 6, 400
AUGMENTED_SHARE = 0.7

# A probe leaves the base's own angles out where its held-out error is below this share of the
# other's: with a base of slope 0.3 it is half of it, with one of slope 0.9, whose angles hold
# better on another day, about the same.
LABELS_SHARE = 0.9

# Where the fine-tune starts from the base's own head: share of the features' mean energy on the
# fit's diagonal. With fewer frames than features the fit is exact but for rounding, and this keeps
# rounding from being amplified.
START_RIDGE = 1e-6
STATISTICS_FRAMES = 32  # of a trunk with random weights, for BatchNorm

# What of the crop's side a base network gets beside all of it, where the calibration frames ask for
# it: the face's box, of which the app's crop is 1.5 times as large. With fewer targets than the
# second number nothing is chosen.
INNER_SHARE, INNER_SHARE_TARGETS = 2 / 3, 9

# The fine-tune.
EPOCH_BATCHES = 10  # of a cosine schedule
FRAME_VISITS = 8  # a cosine schedule shows each frame at least so often,
VISITED_BATCHES = 500  # and `train.visits` times as far as so many batches go: more is not measured
SAMPLE_VISITS = 3  # and each augmented sample about so often: fresh ones each time were no better
WARM_UP_SHARE = 0.1
# Of a constant schedule where cross-validation trains many times: 32 steps of 16. With fewer, 50
# epochs would not be enough for a hundred targets.
EPOCH_SAMPLES = 512
CHECKED_SHARE = 0.1  # of a training, after which it may not be worse than its start
WORSE = 2.0  # times as large a loss: few batches scatter, and a dead network is far beyond it
# How many times the loss a step may promise to take away. At 1 it could not be kept; a little more
# leaves the steps of a trunk alone whose features differ well between frames.
MOST_PROMISED = 2.0
KEEP_EVERY_S = 15.0  # so much work an interruption may cost
