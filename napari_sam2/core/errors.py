"""The tree of errors that this package raises.

::

    Sam2Error
    ├── StackError (ValueError)         pixels that cannot be used
    │   ├── AxesError                   axes that do not fit the shape, or are ambiguous
    │   ├── SpacingError                a spacing that is not a length or a time
    │   └── IntensityError              pixels that are not numbers, or constant
    ├── FileError (OSError)             a file that is missing, cut off or of the wrong kind
    ├── OutputError (OSError)           no place to write, or no space left
    ├── PromptError (ValueError)        a prompt outside its frame or track
    ├── PlanError (ValueError)          a propagation or run that cannot be executed
    ├── LabelsError (ValueError)        label images that do not fit
    ├── MeasurementError (ValueError)   a table, rule or option that measuring cannot use
    ├── MissingPackageError (ImportError)   an optional package that is not installed
    ├── WorkerError (RuntimeError)      workers that die repeatedly on the same job
    └── ModelError (RuntimeError)
        ├── UnknownModelError (LookupError)
        ├── CheckpointError (ValueError)    wrong keys, wrong hash, or a pickle that runs code
        ├── DeviceError                 a device that is not available
        └── DeviceMemoryError (MemoryError) a device without memory for a single item

Each class is also the builtin it refines, so that ``except ValueError`` works too. The message
says what was given, what was expected and what to do.
"""


class Sam2Error(Exception):
    """The root of the tree; `frame` and `track` locate the error, None if not known."""

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
    """Pixels that cannot be used."""


class AxesError(StackError):
    """Axes that do not fit the shape, or are ambiguous."""


class SpacingError(StackError):
    """A spacing that is not a length, or an interval that is not a time."""


class IntensityError(StackError):
    """Pixels that are not numbers, or an image that is the same everywhere."""


class FileError(Sam2Error, OSError):
    """A file that is missing, cut off or of the wrong kind."""


class OutputError(Sam2Error, OSError):
    """No place to write, or no space left."""


class PromptError(Sam2Error, ValueError):
    """A prompt outside its frame, or for a track that cannot take it."""


class PlanError(Sam2Error, ValueError):
    """A propagation or a run that cannot be executed as asked."""


class LabelsError(Sam2Error, ValueError):
    """Label images that do not fit the image, or are not label images."""


class MeasurementError(Sam2Error, ValueError):
    """A table, a rule or an option that measuring cannot use."""


class MissingPackageError(Sam2Error, ImportError):
    """An optional package that is not installed."""


class ModelError(Sam2Error, RuntimeError):
    """A model that cannot be used."""


class UnknownModelError(ModelError, LookupError):
    """A name that no model has."""


class CheckpointError(ModelError, ValueError):
    """A checkpoint with wrong keys, a wrong hash, or a pickle that runs code."""


class DeviceError(ModelError):
    """A device, or a precision of it, that is not available."""


class DeviceMemoryError(ModelError, MemoryError):
    """A device without memory for a single item of a batch."""


class WorkerError(Sam2Error, RuntimeError):
    """Workers that die repeatedly on the same job."""
