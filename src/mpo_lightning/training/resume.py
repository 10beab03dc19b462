"""Where a resumed run stands, told to Lightning in its own terms.

Our state is one integer, the global steps done. Lightning's is a set of counters of micro-batches and epochs, which are those of
the old cut when a run goes on with another number of devices or another micro-batch size, count half of a step when it was saved
in the middle of one, and call an epoch done that `max_steps` ended early. Here the counters are derived from the one integer,
in the form that Lightning itself saves right after the last micro-batch of a step.
"""

from typing import Any


def align_loops(checkpoint: dict[str, Any], step: int, steps_per_epoch: int, micro_batches_per_step: int) -> None:
    """Rewrites a Lightning checkpoint's loop counters in place.

    Args:
        checkpoint: what Lightning loaded.
        step: global steps done, over all epochs.
        steps_per_epoch: global steps in an epoch.
        micro_batches_per_step: micro-batches that each rank computes in a step of the resumed run.
    """
    if step == 0:
        del checkpoint["loops"]
        return
    epochs_before, last_step = divmod(step - 1, steps_per_epoch)
    loops = checkpoint["loops"]["fit_loop"]
    done, done_in_epoch = step * micro_batches_per_step, (last_step + 1) * micro_batches_per_step
    loops["epoch_loop.batch_progress"] = {
        "total": {"ready": done, "started": done, "processed": done, "completed": done - 1},
        "current": {"ready": done_in_epoch, "started": done_in_epoch, "processed": done_in_epoch, "completed": done_in_epoch - 1},
        "is_last_batch": last_step + 1 == steps_per_epoch,
    }
    epoch = {"ready": epochs_before + 1, "started": epochs_before + 1, "processed": epochs_before, "completed": epochs_before}
    loops["epoch_progress"] = {"total": epoch, "current": dict(epoch)}
    # The step that loggers count; Lightning adds the last one when it restarts.
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = step - 1
