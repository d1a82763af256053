"""assay's kernels in PyTorch: conv_transpose2d -> softmax(dim=1) -> + bias -> * scale -> sigmoid.

    from assay_torch import ModelNew
    model = ModelNew(64, 128, 4, 2, 1, 1, (128, 1, 1), 2.0).cuda()
    y = model(x)

Model is the five PyTorch calls; ModelNew has its constructor, its state_dict and its results, on
libassay.so (`make lib`). Importing this package registers the operator
torch.ops.assay.conv_transpose2d_softmax_sigmoid, which exported programs need.
"""

from .binding import LibraryError, build, library_path
from .module import Model, ModelNew
from .plan_cache import clear_plans

__all__ = ["LibraryError", "Model", "ModelNew", "build", "clear_plans", "library_path"]
