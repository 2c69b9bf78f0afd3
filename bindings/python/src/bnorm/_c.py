"""The C API, member for member as in bnorm.h. ctypes releases the GIL during every call."""

import ctypes
import pathlib
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_void_p


class BnormError(RuntimeError):
    """A call that failed; the message is the library's. `status` is its bnorm_status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class InvalidArgument(BnormError, ValueError):
    """BNORM_INVALID_ARGUMENT: an argument breaks its documented contract."""


class OutOfMemory(BnormError, MemoryError):
    """BNORM_OUT_OF_MEMORY."""


class Unsupported(BnormError, NotImplementedError):
    """BNORM_UNSUPPORTED: an ISA that this CPU or this build lacks."""


_ERRORS = {1: InvalidArgument, 2: OutOfMemory, 3: Unsupported}


def _struct(name, members):
    """A struct of `type name name ...; ...`."""
    types = {"i32": c_int32, "i64": c_int64, "size": c_size_t, "f32": c_float, "f64": c_double, "pointer": c_void_p}
    fields = []
    for group in members.split(";"):
        kind, *names = group.split()
        fields += [(field, types[kind]) for field in names]
    return type(name, (Structure,), {"_fields_": fields})


Problem = _struct("Problem", "i32 operation data_type layout; i64 batch channels spatial x_stride y_stride "
                  "residual_stride; f64 epsilon; i32 activation; f32 activation_parameter; i32 residual threads; "
                  "pointer parallel_for")
PlanInfo = _struct("PlanInfo", "size scratch_bytes mask_bytes; i32 threads isa")

OPERATIONS = {name: number for number, name in enumerate(
    ["training_forward", "inference", "backward", "backward_fixed", "moments", "apply", "gradient_sums",
     "gradient_apply"])}

# The arguments of each function, with and without a plan.
ARGUMENTS = {
    "training_forward": "pointer x residual gamma beta y mean inv_std running_mean running_var; i32 running_update; "
                        "f64 momentum; i64 batches_seen; pointer mask; size mask_bytes",
    "inference": "pointer x residual gamma beta running_mean running_var y mask; size mask_bytes",
    "backward": "pointer dy x gamma beta mean inv_std mask; size mask_bytes; pointer dx dresidual dgamma dbeta",
    "backward_fixed": "pointer dy x gamma beta running_mean running_var mask; size mask_bytes; "
                      "pointer dx dresidual dgamma dbeta",
    "moments": "pointer x count mean m2",
    "apply": "pointer x residual gamma beta mean inv_std y mask; size mask_bytes",
    "gradient_sums": "pointer dy x gamma beta mean inv_std mask; size mask_bytes; pointer sum_dy sum_dy_centered_x",
    "gradient_apply": "pointer dy x gamma beta mean inv_std sum_dy sum_dy_centered_x; f64 count; pointer mask; "
                      "size mask_bytes; pointer dx dresidual dgamma dbeta",
    "moments_merge": "i64 channels; f64 count_a; pointer mean_a m2_a; f64 count_b; pointer mean_b m2_b count mean m2",
    "moments_finish": "i64 channels; f64 count; pointer mean m2; f64 epsilon; pointer variance inv_std running_mean "
                      "running_var; i32 running_update; f64 momentum; i64 batches_seen",
    "fold": "i64 channels; pointer gamma beta running_mean running_var; f64 epsilon; pointer scale shift",
    "fold_weights": "i32 layout; i64 output_channels input_channels kernel_size groups; pointer weights bias gamma beta "
                    "running_mean running_var; f64 epsilon; pointer folded_weights folded_bias",
}
STRUCTS = {name: _struct(name + "_args", members) for name, members in ARGUMENTS.items()}


def _load():
    path = next(pathlib.Path(__file__).parent.glob("library/**/libbnorm.so"), "libbnorm.so")
    loaded = ctypes.CDLL(str(path))
    for name in ("bnorm_last_error", "bnorm_version", "bnorm_build_info", "bnorm_isa_name"):
        getattr(loaded, name).restype = c_char_p
    loaded.bnorm_isa_name.argtypes = [c_int32]
    loaded.bnorm_plan_create.argtypes = [POINTER(Problem), POINTER(c_void_p)]
    loaded.bnorm_plan_destroy.argtypes = [c_void_p]
    loaded.bnorm_plan_destroy.restype = None
    loaded.bnorm_plan_get_info.argtypes = [c_void_p, POINTER(PlanInfo)]
    for name, struct in STRUCTS.items():
        getattr(loaded, "bnorm_" + name).argtypes = ([c_void_p] if name in OPERATIONS else []) + [POINTER(struct)]
    return loaded


library = _load()


def check(status):
    if status != 0:
        raise _ERRORS.get(status, BnormError)(status, library.bnorm_last_error().decode())


class Plan:
    """Owns a bnorm_plan. `mask_bytes` is the size of its activation mask."""

    def __init__(self, **problem):
        operation = problem["operation"]
        self._pointer = c_void_p()
        self._function = getattr(library, "bnorm_" + operation)
        self._struct = STRUCTS[operation]
        problem["operation"] = OPERATIONS[operation]
        check(library.bnorm_plan_create(byref(Problem(**problem)), byref(self._pointer)))
        info = PlanInfo()
        check(library.bnorm_plan_get_info(self._pointer, byref(info)))
        self.mask_bytes = info.mask_bytes
        self.threads = info.threads

    def __del__(self):
        library.bnorm_plan_destroy(self._pointer)

    def execute(self, **args):
        """Addresses and numbers by the names of the C struct's members; None is NULL."""
        check(self._function(self._pointer, byref(self._struct(**args))))


def call(name, **args):
    """One of the functions that need no plan."""
    check(getattr(library, "bnorm_" + name)(byref(STRUCTS[name](**args))))
