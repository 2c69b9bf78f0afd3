//! A training step and inference of batch norm with ReLU, checked against what PyTorch computed:
//!   golden_step tests/golden/nchw_relu.f32

mod bnorm;

use bnorm::{Layer, Operation, Plan};
use std::error::Error;

const LAYER: Layer = Layer { batch: 2, channels: 19, spatial: 49, epsilon: 1e-5 };
const ELEMENTS: usize = 2 * 19 * 49;
const CHANNELS: usize = 19;

/// The file's arrays in their order: see tests/golden/generate.py.
struct Golden {
    values: std::vec::IntoIter<f32>,
}

impl Golden {
    fn open(path: &str) -> std::io::Result<Golden> {
        let bytes = std::fs::read(path)?;
        let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Golden { values: values.into_iter() })
    }
    fn tensor(&mut self) -> Vec<f32> {
        self.values.by_ref().take(ELEMENTS).collect()
    }
    fn channels(&mut self) -> Vec<f32> {
        self.values.by_ref().take(CHANNELS).collect()
    }
}

fn expect(name: &str, got: &[f32], expected: &[f32]) -> Result<(), Box<dyn Error>> {
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 5e-6 * (1.0 + b.abs());
    if got.len() != expected.len() || !got.iter().zip(expected).all(close) {
        return Err(format!("{name} is not PyTorch's").into());
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: golden_step tests/golden/nchw_relu.f32")?;
    let mut golden = Golden::open(&path)?;
    let x = golden.tensor();
    let gamma = golden.channels();
    let beta = golden.channels();
    golden.tensor(); // a residual, which this case has none of
    let mut running_mean = golden.channels();
    let mut running_var = golden.channels();
    let dy = golden.tensor();

    let mut frozen_y = vec![0.0; ELEMENTS];
    Plan::new(LAYER, Operation::Inference)?.inference(&x, &gamma, &beta, (&running_mean, &running_var), &mut frozen_y)?;

    let mut y = vec![0.0; ELEMENTS];
    let running = (&mut running_mean[..], &mut running_var[..]);
    let statistics =
        Plan::new(LAYER, Operation::TrainingForward)?.training_forward(&x, &gamma, &beta, running, 0.1, &mut y)?;
    expect("y", &y, &golden.tensor())?;
    expect("running_mean", &running_mean, &golden.channels())?;
    expect("running_var", &running_var, &golden.channels())?;

    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; ELEMENTS], vec![0.0; CHANNELS], vec![0.0; CHANNELS]);
    let plan = Plan::new(LAYER, Operation::Backward)?;
    plan.backward(&dy, &x, (&gamma, &beta), &statistics, &mut dx, (&mut dgamma, &mut dbeta))?;
    expect("dx", &dx, &golden.tensor())?;
    golden.tensor();
    expect("dgamma", &dgamma, &golden.channels())?;
    expect("dbeta", &dbeta, &golden.channels())?;
    expect("y of inference", &frozen_y, &golden.tensor())?;

    let error = Plan::new(Layer { channels: -1, ..LAYER }, Operation::Inference).err().ok_or("C = -1 was taken")?;
    println!("a bad argument is an Err: {error}");
    println!("Rust: training and inference are PyTorch's (bnorm {})", bnorm::version());
    Ok(())
}
