"""One run: student, teacher, rollouts, a step, the Trainer around it."""
