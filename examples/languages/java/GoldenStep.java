// A training step and inference of batch norm with ReLU through the C API (JNA), checked against what PyTorch computed:
//   java -cp jna.jar:. GoldenStep tests/golden/nchw_relu.f32
import com.sun.jna.Library;
import com.sun.jna.Memory;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.Structure;
import com.sun.jna.ptr.PointerByReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;

public final class GoldenStep {
    static final int BATCH = 2;
    static final int CHANNELS = 19;
    static final int SPATIAL = 49;
    static final int ELEMENTS = BATCH * CHANNELS * SPATIAL;

    static final int TRAINING_FORWARD = 0;
    static final int INFERENCE = 1;
    static final int BACKWARD = 2;
    static final int RELU = 1;

    /** size_t is 8 bytes wherever bnorm runs, as is Java's long. */
    @Structure.FieldOrder({"operation", "dataType", "layout", "batch", "channels", "spatial", "xStride", "yStride",
        "residualStride", "epsilon", "activation", "activationParameter", "residual", "threads", "parallelFor"})
    public static class Problem extends Structure {
        public int operation;
        public int dataType;
        public int layout;
        public long batch;
        public long channels;
        public long spatial;
        public long xStride;
        public long yStride;
        public long residualStride;
        public double epsilon;
        public int activation;
        public float activationParameter;
        public int residual;
        public int threads;
        public Pointer parallelFor;
    }

    @Structure.FieldOrder({"x", "residual", "gamma", "beta", "y", "mean", "invStd", "runningMean", "runningVar",
        "runningUpdate", "momentum", "batchesSeen", "mask", "maskBytes"})
    public static class TrainingForwardArgs extends Structure {
        public Pointer x;
        public Pointer residual;
        public Pointer gamma;
        public Pointer beta;
        public Pointer y;
        public Pointer mean;
        public Pointer invStd;
        public Pointer runningMean;
        public Pointer runningVar;
        public int runningUpdate;
        public double momentum;
        public long batchesSeen;
        public Pointer mask;
        public long maskBytes;
    }

    @Structure.FieldOrder({"x", "residual", "gamma", "beta", "runningMean", "runningVar", "y", "mask", "maskBytes"})
    public static class InferenceArgs extends Structure {
        public Pointer x;
        public Pointer residual;
        public Pointer gamma;
        public Pointer beta;
        public Pointer runningMean;
        public Pointer runningVar;
        public Pointer y;
        public Pointer mask;
        public long maskBytes;
    }

    @Structure.FieldOrder({"dy", "x", "gamma", "beta", "mean", "invStd", "mask", "maskBytes", "dx", "dresidual",
        "dgamma", "dbeta"})
    public static class BackwardArgs extends Structure {
        public Pointer dy;
        public Pointer x;
        public Pointer gamma;
        public Pointer beta;
        public Pointer mean;
        public Pointer invStd;
        public Pointer mask;
        public long maskBytes;
        public Pointer dx;
        public Pointer dresidual;
        public Pointer dgamma;
        public Pointer dbeta;
    }

    public interface Bnorm extends Library {
        Bnorm LIBRARY = Native.load("bnorm", Bnorm.class);

        int bnorm_plan_create(Problem problem, PointerByReference plan);

        void bnorm_plan_destroy(Pointer plan);

        int bnorm_training_forward(Pointer plan, TrainingForwardArgs args);

        int bnorm_inference(Pointer plan, InferenceArgs args);

        int bnorm_backward(Pointer plan, BackwardArgs args);

        String bnorm_last_error();

        String bnorm_version();
    }

    static void check(int status) {
        if (status != 0) {
            throw new IllegalArgumentException(Bnorm.LIBRARY.bnorm_last_error());
        }
    }

    static final class Plan implements AutoCloseable {
        final Pointer pointer;

        Plan(int operation, long channels) {
            Problem problem = new Problem();
            problem.operation = operation;
            problem.batch = BATCH;
            problem.channels = channels;
            problem.spatial = SPATIAL;
            problem.epsilon = 1e-5;
            problem.activation = RELU;
            PointerByReference plan = new PointerByReference();
            check(Bnorm.LIBRARY.bnorm_plan_create(problem, plan));
            pointer = plan.getValue();
        }

        @Override
        public void close() {
            Bnorm.LIBRARY.bnorm_plan_destroy(pointer);
        }
    }

    /** The file's arrays in their order: see tests/golden/generate.py. Memory is outside Java's heap: it does not move. */
    static final class Golden {
        private final FloatBuffer values;

        Golden(Path path) throws java.io.IOException {
            values = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
        }

        private Memory read(int count) {
            float[] array = new float[count];
            values.get(array);
            Memory memory = new Memory(4L * count);
            memory.write(0, array, 0, count);
            return memory;
        }

        Memory tensor() {
            return read(ELEMENTS);
        }

        Memory channels() {
            return read(CHANNELS);
        }
    }

    static void expect(String name, Memory got, Memory expected) {
        int count = (int) (expected.size() / 4);
        float[] a = got.getFloatArray(0, count);
        float[] b = expected.getFloatArray(0, count);
        for (int i = 0; i < count; ++i) {
            if (!(Math.abs(a[i] - b[i]) <= 5e-6F * (1 + Math.abs(b[i])))) {
                throw new AssertionError(name + "[" + i + "] is " + a[i] + " instead of " + b[i]);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        Golden golden = new Golden(Path.of(arguments[0]));
        Memory x = golden.tensor();
        Memory gamma = golden.channels();
        Memory beta = golden.channels();
        golden.tensor(); // a residual, which this case has none of
        Memory runningMean = golden.channels();
        Memory runningVar = golden.channels();
        Memory dy = golden.tensor();

        Memory frozenY = new Memory(4L * ELEMENTS);
        InferenceArgs inference = new InferenceArgs();
        inference.x = x;
        inference.gamma = gamma;
        inference.beta = beta;
        inference.runningMean = runningMean;
        inference.runningVar = runningVar;
        inference.y = frozenY;
        try (Plan plan = new Plan(INFERENCE, CHANNELS)) {
            check(Bnorm.LIBRARY.bnorm_inference(plan.pointer, inference));
        }

        Memory y = new Memory(4L * ELEMENTS);
        Memory mean = new Memory(8L * CHANNELS);
        Memory invStd = new Memory(8L * CHANNELS);
        TrainingForwardArgs forward = new TrainingForwardArgs();
        forward.x = x;
        forward.gamma = gamma;
        forward.beta = beta;
        forward.y = y;
        forward.mean = mean;
        forward.invStd = invStd;
        forward.runningMean = runningMean;
        forward.runningVar = runningVar;
        forward.momentum = 0.1;
        try (Plan plan = new Plan(TRAINING_FORWARD, CHANNELS)) {
            check(Bnorm.LIBRARY.bnorm_training_forward(plan.pointer, forward));
        }
        expect("y", y, golden.tensor());
        expect("running_mean", runningMean, golden.channels());
        expect("running_var", runningVar, golden.channels());

        BackwardArgs backward = new BackwardArgs();
        backward.dy = dy;
        backward.x = x;
        backward.gamma = gamma;
        backward.beta = beta;
        backward.mean = mean;
        backward.invStd = invStd;
        Memory dx = new Memory(4L * ELEMENTS);
        Memory dgamma = new Memory(4L * CHANNELS);
        Memory dbeta = new Memory(4L * CHANNELS);
        backward.dx = dx;
        backward.dgamma = dgamma;
        backward.dbeta = dbeta;
        try (Plan plan = new Plan(BACKWARD, CHANNELS)) {
            check(Bnorm.LIBRARY.bnorm_backward(plan.pointer, backward));
        }
        expect("dx", dx, golden.tensor());
        golden.tensor();
        expect("dgamma", dgamma, golden.channels());
        expect("dbeta", dbeta, golden.channels());
        expect("y of inference", frozenY, golden.tensor());

        try {
            new Plan(INFERENCE, -1).close();
            throw new AssertionError("C = -1 was taken");
        } catch (IllegalArgumentException expected) {
            System.out.println("a bad argument throws: " + expected.getMessage());
        }
        System.out.println("Java: training and inference are PyTorch's (bnorm " + Bnorm.LIBRARY.bnorm_version() + ")");
    }
}
