// A training step and inference of batch norm with ReLU through the C API, checked against what PyTorch computed:
//   node golden_step.mjs libbnorm.so tests/golden/nchw_relu.f32
import fs from 'node:fs';
import koffi from 'koffi';

const [libraryPath, goldenPath] = process.argv.slice(2);
const N = 2, C = 19, S = 49, ELEMENTS = N * C * S;
const Operation = { trainingForward: 0, inference: 1, backward: 2 };
const RELU = 1;

// ---- the C API: members as in bnorm.h; those that an object leaves out are filled in as 0 or NULL by `zeroed` ----

const library = koffi.load(libraryPath);

const structs = {
  bnorm_problem: {
    operation: 'int32_t', data_type: 'int32_t', layout: 'int32_t', batch: 'int64_t', channels: 'int64_t',
    spatial: 'int64_t', x_stride: 'int64_t', y_stride: 'int64_t', residual_stride: 'int64_t', epsilon: 'double',
    activation: 'int32_t', activation_parameter: 'float', residual: 'int32_t', threads: 'int32_t',
    parallel_for: 'void *',
  },
  bnorm_training_forward_args: {
    x: 'float *', residual: 'float *', gamma: 'float *', beta: 'float *', y: 'float *', mean: 'double *',
    inv_std: 'double *', running_mean: 'float *', running_var: 'float *', running_update: 'int32_t',
    momentum: 'double', batches_seen: 'int64_t', mask: 'void *', mask_bytes: 'size_t',
  },
  bnorm_inference_args: {
    x: 'float *', residual: 'float *', gamma: 'float *', beta: 'float *', running_mean: 'float *',
    running_var: 'float *', y: 'float *', mask: 'void *', mask_bytes: 'size_t',
  },
  bnorm_backward_args: {
    dy: 'float *', x: 'float *', gamma: 'float *', beta: 'float *', mean: 'double *', inv_std: 'double *',
    mask: 'void *', mask_bytes: 'size_t', dx: 'float *', dresidual: 'float *', dgamma: 'float *', dbeta: 'float *',
  },
};
for (const [name, members] of Object.entries(structs)) {
  koffi.struct(name, members);
}

function zeroed(name, values) {
  const empty = Object.entries(structs[name]).map(([member, type]) => [member, type.endsWith('*') ? null : 0]);
  return { ...Object.fromEntries(empty), ...values };
}

const lastError = library.func('const char *bnorm_last_error()');
const version = library.func('const char *bnorm_version()');
const planCreate = library.func('int32_t bnorm_plan_create(const bnorm_problem *problem, _Out_ void **plan)');
const planDestroy = library.func('void bnorm_plan_destroy(void *plan)');
const run = {
  bnorm_training_forward: library.func('int32_t bnorm_training_forward(void *, const bnorm_training_forward_args *)'),
  bnorm_inference: library.func('int32_t bnorm_inference(void *, const bnorm_inference_args *)'),
  bnorm_backward: library.func('int32_t bnorm_backward(void *, const bnorm_backward_args *)'),
};

function check(status) {
  if (status !== 0) {
    throw new Error(lastError());
  }
}

// Plans once, executes once, with typed arrays as tensors: koffi hands their memory to C without a copy.
function execute(name, operation, args, channels = C) {
  const problem = { operation, batch: N, channels, spatial: S, epsilon: 1e-5, activation: RELU };
  const plan = [null];
  check(planCreate(zeroed('bnorm_problem', problem), plan));
  try {
    check(run[name](plan[0], zeroed(name + '_args', args)));
  } finally {
    planDestroy(plan[0]);
  }
}

// ---- the example ----

// The file's arrays in their order: see tests/golden/generate.py.
const file = fs.readFileSync(goldenPath);
const values = new Float32Array(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
let position = 0;
const read = (count) => values.slice(position, (position += count));
const tensor = () => read(ELEMENTS);
const channels = () => read(C);

function expect(name, got, expected) {
  for (let i = 0; i < expected.length; ++i) {
    if (!(Math.abs(got[i] - expected[i]) <= 5e-6 * (1 + Math.abs(expected[i])))) {
      throw new Error(`${name}[${i}] is ${got[i]} instead of ${expected[i]}`);
    }
  }
}

const x = tensor();
const gamma = channels();
const beta = channels();
tensor(); // a residual, which this case has none of
const running_mean = channels();
const running_var = channels();
const dy = tensor();

const frozenY = new Float32Array(ELEMENTS);
execute('bnorm_inference', Operation.inference, { x, gamma, beta, running_mean, running_var, y: frozenY });

const y = new Float32Array(ELEMENTS);
const mean = new Float64Array(C);
const inv_std = new Float64Array(C);
execute('bnorm_training_forward', Operation.trainingForward,
  { x, gamma, beta, y, mean, inv_std, running_mean, running_var, momentum: 0.1 });
expect('y', y, tensor());
expect('running_mean', running_mean, channels());
expect('running_var', running_var, channels());

const dx = new Float32Array(ELEMENTS);
const dgamma = new Float32Array(C);
const dbeta = new Float32Array(C);
execute('bnorm_backward', Operation.backward, { dy, x, gamma, beta, mean, inv_std, dx, dgamma, dbeta });
expect('dx', dx, tensor());
tensor();
expect('dgamma', dgamma, channels());
expect('dbeta', dbeta, channels());
expect('y of inference', frozenY, tensor());

try {
  execute('bnorm_inference', Operation.inference, { x, y: frozenY }, -1);
  throw new Error('C = -1 was taken');
} catch (error) {
  console.log(`a bad argument throws: ${error.message}`);
}
console.log(`Node.js: training and inference are PyTorch's (bnorm ${version()})`);
