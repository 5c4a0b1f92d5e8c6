"""Every test runs on one thread, so that two of them do not fight over the cores."""

import torch

torch.set_num_threads(1)
