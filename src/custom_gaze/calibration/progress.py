"""How a training is getting on, told to whoever wants to know; nothing here decides a result."""

from custom_gaze.calibration.recipe import Epoch
from custom_gaze.config.candidate import Candidate


class Progress:
    """Told in the training's own thread, so what is done here has to be quick, and raise nothing.

    This one ignores what it is told.
    """

    def stands(self, where: str) -> None:
        """What is being done now, e.g. 'fold 3 of 5'."""

    def about(self, trunk: str, base: str) -> None:
        """The base network's trunk, and what file it was."""

    def epoch(self, epoch: Epoch, fold: int | None = None) -> None:
        """An epoch's figures; with `fold`, from 1 on, those of one fold of a cross-validation.

        Those of a training that goes on where it was interrupted are told again.
        """

    def candidate(self, name: Candidate, error_deg: float) -> None:
        """A candidate's mean error on targets that its fit had not seen."""


SILENT = Progress()
