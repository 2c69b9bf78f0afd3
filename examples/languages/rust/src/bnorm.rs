//! A safe wrapper of the part of bnorm's C API that the example needs. It links to the shared library; there is no other
//! dependency. Slices carry their lengths, which are checked here; everything else is checked by the library.

use std::ffi::{c_char, c_void, CStr};
use std::{error, fmt, ptr};

/// The C structs, member for member as in bnorm.h.
mod c {
    use super::*;

    #[repr(C)]
    pub struct Problem {
        pub operation: i32,
        pub data_type: i32,
        pub layout: i32,
        pub batch: i64,
        pub channels: i64,
        pub spatial: i64,
        pub x_stride: i64,
        pub y_stride: i64,
        pub residual_stride: i64,
        pub epsilon: f64,
        pub activation: i32,
        pub activation_parameter: f32,
        pub residual: i32,
        pub threads: i32,
        pub parallel_for: *const c_void,
    }

    #[repr(C)]
    pub struct TrainingForward {
        pub x: *const f32,
        pub residual: *const f32,
        pub gamma: *const f32,
        pub beta: *const f32,
        pub y: *mut f32,
        pub mean: *mut f64,
        pub inv_std: *mut f64,
        pub running_mean: *mut f32,
        pub running_var: *mut f32,
        pub running_update: i32,
        pub momentum: f64,
        pub batches_seen: i64,
        pub mask: *mut c_void,
        pub mask_bytes: usize,
    }

    #[repr(C)]
    pub struct Inference {
        pub x: *const f32,
        pub residual: *const f32,
        pub gamma: *const f32,
        pub beta: *const f32,
        pub running_mean: *const f32,
        pub running_var: *const f32,
        pub y: *mut f32,
        pub mask: *mut c_void,
        pub mask_bytes: usize,
    }

    #[repr(C)]
    pub struct Backward {
        pub dy: *const f32,
        pub x: *const f32,
        pub gamma: *const f32,
        pub beta: *const f32,
        pub mean: *const f64,
        pub inv_std: *const f64,
        pub mask: *const c_void,
        pub mask_bytes: usize,
        pub dx: *mut f32,
        pub dresidual: *mut f32,
        pub dgamma: *mut f32,
        pub dbeta: *mut f32,
    }

    #[link(name = "bnorm")]
    extern "C" {
        pub fn bnorm_plan_create(problem: *const Problem, plan: *mut *mut c_void) -> i32;
        pub fn bnorm_plan_destroy(plan: *mut c_void);
        pub fn bnorm_training_forward(plan: *const c_void, args: *const TrainingForward) -> i32;
        pub fn bnorm_inference(plan: *const c_void, args: *const Inference) -> i32;
        pub fn bnorm_backward(plan: *const c_void, args: *const Backward) -> i32;
        pub fn bnorm_last_error() -> *const c_char;
        pub fn bnorm_version() -> *const c_char;
    }
}

#[derive(Debug)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
impl error::Error for Error {}

fn check(status: i32) -> Result<(), Error> {
    if status == 0 {
        return Ok(());
    }
    // Valid until the next failing call of this thread: copied at once.
    Err(Error(unsafe { CStr::from_ptr(c::bnorm_last_error()) }.to_string_lossy().into_owned()))
}

pub fn version() -> &'static str {
    unsafe { CStr::from_ptr(c::bnorm_version()) }.to_str().unwrap_or("")
}

#[derive(Clone, Copy)]
pub enum Operation {
    TrainingForward = 0,
    Inference = 1,
    Backward = 2,
}

/// An NCHW batch norm with ReLU.
#[derive(Clone, Copy)]
pub struct Layer {
    pub batch: i64,
    pub channels: i64,
    pub spatial: i64,
    pub epsilon: f64,
}

/// Statistics of a batch, for backward.
pub struct Statistics {
    mean: Vec<f64>,
    inv_std: Vec<f64>,
}

pub struct Plan {
    layer: Layer,
    plan: *mut c_void,
}

// A plan is immutable, and any number of threads may execute it.
unsafe impl Send for Plan {}
unsafe impl Sync for Plan {}

impl Drop for Plan {
    fn drop(&mut self) {
        unsafe { c::bnorm_plan_destroy(self.plan) }
    }
}

fn expect_length(name: &str, length: usize, expected: i64) -> Result<(), Error> {
    if length as i64 == expected {
        return Ok(());
    }
    Err(Error(format!("{name} has {length} elements; the layer needs {expected}")))
}

impl Plan {
    pub fn new(layer: Layer, operation: Operation) -> Result<Plan, Error> {
        const RELU: i32 = 1;
        let problem = c::Problem {
            operation: operation as i32,
            data_type: 0,
            layout: 0,
            batch: layer.batch,
            channels: layer.channels,
            spatial: layer.spatial,
            x_stride: 0,
            y_stride: 0,
            residual_stride: 0,
            epsilon: layer.epsilon,
            activation: RELU,
            activation_parameter: 0.0,
            residual: 0,
            threads: 0,
            parallel_for: ptr::null(),
        };
        let mut plan = ptr::null_mut();
        check(unsafe { c::bnorm_plan_create(&problem, &mut plan) })?;
        Ok(Plan { layer, plan })
    }

    fn expect(&self, tensors: &[(&str, usize)], channels: &[(&str, usize)]) -> Result<(), Error> {
        let elements = self.layer.batch * self.layer.channels * self.layer.spatial;
        tensors.iter().try_for_each(|(name, length)| expect_length(name, *length, elements))?;
        channels.iter().try_for_each(|(name, length)| expect_length(name, *length, self.layer.channels))
    }

    pub fn training_forward(
        &self,
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
        running: (&mut [f32], &mut [f32]),
        momentum: f64,
        y: &mut [f32],
    ) -> Result<Statistics, Error> {
        self.expect(
            &[("x", x.len()), ("y", y.len())],
            &[
                ("gamma", gamma.len()),
                ("beta", beta.len()),
                ("running_mean", running.0.len()),
                ("running_var", running.1.len()),
            ],
        )?;
        let channels = self.layer.channels as usize;
        let mut statistics = Statistics { mean: vec![0.0; channels], inv_std: vec![0.0; channels] };
        let args = c::TrainingForward {
            x: x.as_ptr(),
            residual: ptr::null(),
            gamma: gamma.as_ptr(),
            beta: beta.as_ptr(),
            y: y.as_mut_ptr(),
            mean: statistics.mean.as_mut_ptr(),
            inv_std: statistics.inv_std.as_mut_ptr(),
            running_mean: running.0.as_mut_ptr(),
            running_var: running.1.as_mut_ptr(),
            running_update: 0,
            momentum,
            batches_seen: 0,
            mask: ptr::null_mut(),
            mask_bytes: 0,
        };
        check(unsafe { c::bnorm_training_forward(self.plan, &args) })?;
        Ok(statistics)
    }

    pub fn inference(
        &self,
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
        running: (&[f32], &[f32]),
        y: &mut [f32],
    ) -> Result<(), Error> {
        self.expect(
            &[("x", x.len()), ("y", y.len())],
            &[
                ("gamma", gamma.len()),
                ("beta", beta.len()),
                ("running_mean", running.0.len()),
                ("running_var", running.1.len()),
            ],
        )?;
        let args = c::Inference {
            x: x.as_ptr(),
            residual: ptr::null(),
            gamma: gamma.as_ptr(),
            beta: beta.as_ptr(),
            running_mean: running.0.as_ptr(),
            running_var: running.1.as_ptr(),
            y: y.as_mut_ptr(),
            mask: ptr::null_mut(),
            mask_bytes: 0,
        };
        check(unsafe { c::bnorm_inference(self.plan, &args) })
    }

    /// `parameters` are gamma and beta, `gradients` become dgamma and dbeta.
    pub fn backward(
        &self,
        dy: &[f32],
        x: &[f32],
        parameters: (&[f32], &[f32]),
        statistics: &Statistics,
        dx: &mut [f32],
        gradients: (&mut [f32], &mut [f32]),
    ) -> Result<(), Error> {
        self.expect(
            &[("dy", dy.len()), ("x", x.len()), ("dx", dx.len())],
            &[
                ("gamma", parameters.0.len()),
                ("beta", parameters.1.len()),
                ("mean", statistics.mean.len()),
                ("dgamma", gradients.0.len()),
                ("dbeta", gradients.1.len()),
            ],
        )?;
        let args = c::Backward {
            dy: dy.as_ptr(),
            x: x.as_ptr(),
            gamma: parameters.0.as_ptr(),
            beta: parameters.1.as_ptr(),
            mean: statistics.mean.as_ptr(),
            inv_std: statistics.inv_std.as_ptr(),
            mask: ptr::null(),
            mask_bytes: 0,
            dx: dx.as_mut_ptr(),
            dresidual: ptr::null_mut(),
            dgamma: gradients.0.as_mut_ptr(),
            dbeta: gradients.1.as_mut_ptr(),
        };
        check(unsafe { c::bnorm_backward(self.plan, &args) })
    }
}
