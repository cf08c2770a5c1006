"""Every error this package raises, one tree.

::

    Sam2Error
    ├── StackError (ValueError)         pixels that cannot be used as asked
    │   ├── AxesError                   axes that do not fit the shape, or that nobody can guess
    │   ├── SpacingError                a spacing or an interval that is no length or time
    │   └── IntensityError              not a number, or the same everywhere
    ├── FileError (OSError)             a file that is missing, cut off or not what it should be
    ├── OutputError (OSError)           nowhere to write, or no space left
    ├── PromptError (ValueError)        a prompt no frame or track can take
    ├── PlanError (ValueError)          a propagation that cannot be walked
    ├── LabelsError (ValueError)        label images that do not fit
    ├── WorkerError (RuntimeError)      workers that die, one after another, of the same job
    └── ModelError (RuntimeError)
        ├── UnknownModelError (LookupError)
        ├── CheckpointError (ValueError)    wrong keys, wrong hash, a pickle that wants to run code
        ├── DeviceError                 a device that is not there
        └── DeviceMemoryError (MemoryError) a device whose memory does not hold even one thing

Each class is also the builtin it refines, so ``except ValueError`` keeps working. The text says
what was given, what was expected and what to do; `frame` and `track` are set where they are known.
"""


class Sam2Error(Exception):
    """The root. `frame` and `track` say where it happened, None where that is not known."""

    def __init__(self, message: str, *, frame: int | None = None, track: int | None = None) -> None:
        super().__init__(message)
        self.frame = frame
        self.track = track

    def __str__(self) -> str:
        place = [
            f"{name} {value}"
            for name, value in (("track", self.track), ("frame", self.frame))
            if value is not None
        ]
        return f"{', '.join(place)}: {self.args[0]}" if place else str(self.args[0])


class StackError(Sam2Error, ValueError):
    """Pixels that cannot be used as asked."""


class AxesError(StackError):
    """Axes that do not fit the shape, or that nobody can guess."""


class SpacingError(StackError):
    """A spacing that is no length, or an interval that is no time."""


class IntensityError(StackError):
    """Pixels that are not numbers, or the same everywhere."""


class FileError(Sam2Error, OSError):
    """A file that is missing, cut off, or not what it should be."""


class OutputError(Sam2Error, OSError):
    """Nowhere to write, or no space left."""


class PromptError(Sam2Error, ValueError):
    """A prompt that no frame or track can take."""


class PlanError(Sam2Error, ValueError):
    """A propagation that cannot be walked."""


class LabelsError(Sam2Error, ValueError):
    """Label images that do not fit the image, or are no label images."""


class MeasurementError(Sam2Error, ValueError):
    """A table, a rule or an option that measuring cannot use."""


class MissingPackageError(Sam2Error, ImportError):
    """An optional package that is not installed."""


class ModelError(Sam2Error, RuntimeError):
    """A model that cannot be used."""


class UnknownModelError(ModelError, LookupError):
    """A name that no model goes by."""


class CheckpointError(ModelError, ValueError):
    """A checkpoint with wrong keys, a wrong hash, or a pickle that wants to run code."""


class DeviceError(ModelError):
    """A device that is not there."""


class DeviceMemoryError(ModelError, MemoryError):
    """A device whose memory does not hold even one thing that is asked."""


class WorkerError(Sam2Error, RuntimeError):
    """Workers that die, one after another, of the same job."""
