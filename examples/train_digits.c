/*
 * Trains the network of Ioffe and Szegedy 2015, section 4.1, on real handwritten digits, once without and once with
 * batch norm, and shows the accuracy on digits that neither has seen after each epoch.
 *
 *     64 pixels -> 3 x (dense layer of 100 -> [batch norm] -> sigmoid) -> dense layer of 10 -> softmax
 *
 * Both networks start from the same weights, see the same minibatches of 60 in the same order and take the same steps
 * of plain gradient descent. Only the batch norm differs: bnorm_training_forward and bnorm_backward while training,
 * bnorm_inference with the running statistics when the accuracy is taken.
 *
 * Data: digits.csv, the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998, UCI
 * Machine Learning Repository, CC BY 4.0): one 8x8 image a line, 64 pixels from 0 to 16, then the digit.
 */
#include <bnorm/bnorm.h>

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = 64, HIDDEN = 100, DIGITS = 10, HIDDEN_LAYERS = 3, LAYERS = HIDDEN_LAYERS + 1 };
enum { EXAMPLES = 1797, TRAINING = 1500, TEST = EXAMPLES - TRAINING, MINIBATCH = 60 };

/* ---- Helpers ----------------------------------------------------------------------------------------------------- */

static void stop(const char* what, const char* why) {
    fprintf(stderr, "train_digits: %s: %s\n", what, why);
    exit(2);
}

static void must(bnorm_status status) {
    if (status != BNORM_OK) {
        stop(bnorm_status_text(status), bnorm_last_error());
    }
}

static float* new_floats(size_t count) {
    float* floats = calloc(count, sizeof *floats);
    if (floats == NULL) {
        stop("memory", "there is not enough");
    }
    return floats;
}

/* SplitMix64 (Steele, Lea and Flood 2014): the same numbers on every machine. */
static uint64_t random_bits(uint64_t* state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

static double random_uniform(uint64_t* state) {
    return ((double)(random_bits(state) >> 11) + 0.5) / 9007199254740992.0;
}

static double random_normal(uint64_t* state) {
    const double radius = sqrt(-2.0 * log(random_uniform(state)));
    return radius * cos(6.283185307179586 * random_uniform(state));
}

static void shuffle(int* numbers, int count, uint64_t* state) {
    for (int i = count - 1; i > 0; --i) {
        const int j = (int)(random_bits(state) % (uint64_t)(i + 1));
        const int swapped = numbers[i];
        numbers[i] = numbers[j];
        numbers[j] = swapped;
    }
}

/* ---- Data -------------------------------------------------------------------------------------------------------- */

typedef struct {
    float pixels[EXAMPLES][PIXELS]; /* 0 to 1 */
    int digits[EXAMPLES];
} digit_set;

static int read_number(FILE* file, const char* path, int largest) {
    int number = 0;
    if (fscanf(file, "%d", &number) != 1 || number < 0 || number > largest) {
        stop(path, "not 1797 lines of 64 numbers from 0 to 16 and a digit");
    }
    (void)fgetc(file); /* the comma or the end of the line */
    return number;
}

/* The examples in the order that the seed gives: the first TRAINING of them are for training, the rest for the test. */
static void read_digits(const char* path, uint64_t seed, digit_set* set) {
    int place[EXAMPLES];
    FILE* file = fopen(path, "r");
    if (file == NULL) {
        stop(path, "cannot be opened (give its place with --data)");
    }
    for (int i = 0; i < EXAMPLES; ++i) {
        place[i] = i;
    }
    shuffle(place, EXAMPLES, &seed);
    for (int i = 0; i < EXAMPLES; ++i) {
        for (int pixel = 0; pixel < PIXELS; ++pixel) {
            set->pixels[place[i]][pixel] = (float)read_number(file, path, 16) / 16.0F;
        }
        set->digits[place[i]] = read_number(file, path, 9);
    }
    fclose(file);
}

/* ---- Dense layer, sigmoid, softmax ------------------------------------------------------------------------------- */

typedef struct {
    int inputs, outputs;
    float* weights; /* [inputs][outputs] */
    float* bias;    /* [outputs] */
} dense_layer;

static dense_layer new_dense(int inputs, int outputs, uint64_t* random) {
    const size_t count = (size_t)inputs * (size_t)outputs;
    dense_layer layer = {inputs, outputs, new_floats(count), new_floats((size_t)outputs)};
    for (size_t i = 0; i < count; ++i) {
        layer.weights[i] = (float)(random_normal(random) / sqrt(inputs));
    }
    return layer;
}

static void dense_forward(const dense_layer* layer, int rows, const float* input, float* output) {
    for (int row = 0; row < rows; ++row, input += layer->inputs, output += layer->outputs) {
        memcpy(output, layer->bias, (size_t)layer->outputs * sizeof *output);
        for (int i = 0; i < layer->inputs; ++i) {
            const float* weights = layer->weights + (size_t)i * (size_t)layer->outputs;
            for (int o = 0; o < layer->outputs; ++o) {
                output[o] += input[i] * weights[o];
            }
        }
    }
}

static void dense_input_gradient(const dense_layer* layer, int rows, const float* gradient, float* input_gradient) {
    for (int row = 0; row < rows; ++row, gradient += layer->outputs, input_gradient += layer->inputs) {
        for (int i = 0; i < layer->inputs; ++i) {
            const float* weights = layer->weights + (size_t)i * (size_t)layer->outputs;
            float sum = 0.0F;
            for (int o = 0; o < layer->outputs; ++o) {
                sum += gradient[o] * weights[o];
            }
            input_gradient[i] = sum;
        }
    }
}

static void dense_step(dense_layer* layer, int rows, const float* input, const float* gradient, float learning_rate) {
    for (int row = 0; row < rows; ++row, input += layer->inputs, gradient += layer->outputs) {
        for (int i = 0; i < layer->inputs; ++i) {
            float* weights = layer->weights + (size_t)i * (size_t)layer->outputs;
            for (int o = 0; o < layer->outputs; ++o) {
                weights[o] -= learning_rate * input[i] * gradient[o];
            }
        }
        for (int o = 0; o < layer->outputs; ++o) {
            layer->bias[o] -= learning_rate * gradient[o];
        }
    }
}

static void sigmoid_forward(int count, const float* input, float* output) {
    for (int i = 0; i < count; ++i) {
        output[i] = 1.0F / (1.0F + expf(-input[i]));
    }
}

/* In place: the gradient of the output becomes that of the input. */
static void sigmoid_backward(int count, const float* output, float* gradient) {
    for (int i = 0; i < count; ++i) {
        gradient[i] *= output[i] * (1.0F - output[i]);
    }
}

/* Gradient of the mean cross-entropy of softmax(scores) with the digits. */
static void cross_entropy_gradient(int rows, const float* scores, const int* digits, float* gradient) {
    for (int row = 0; row < rows; ++row, scores += DIGITS, gradient += DIGITS) {
        float largest = scores[0];
        float sum = 0.0F;
        for (int i = 1; i < DIGITS; ++i) {
            largest = fmaxf(largest, scores[i]);
        }
        for (int i = 0; i < DIGITS; ++i) {
            gradient[i] = expf(scores[i] - largest);
            sum += gradient[i];
        }
        for (int i = 0; i < DIGITS; ++i) {
            gradient[i] = (gradient[i] / sum - (i == digits[row] ? 1.0F : 0.0F)) / (float)rows;
        }
    }
}

/* ---- Batch norm -------------------------------------------------------------------------------------------------- */

typedef struct {
    bnorm_plan *forward, *backward, *inference;
    float gamma[HIDDEN], beta[HIDDEN], dgamma[HIDDEN], dbeta[HIDDEN];
    float running_mean[HIDDEN], running_var[HIDDEN];
    double mean[HIDDEN], inv_std[HIDDEN];
} batch_norm;

/* A dense layer's output is [rows][channels]: NC, one spatial element. */
static bnorm_plan* new_plan(bnorm_operation operation, int rows) {
    const bnorm_problem problem = {
        .operation = operation, .layout = BNORM_NHWC, .batch = rows, .channels = HIDDEN, .spatial = 1, .epsilon = 1e-5};
    bnorm_plan* plan = NULL;
    must(bnorm_plan_create(&problem, &plan));
    return plan;
}

static void batch_norm_create(batch_norm* norm) {
    norm->forward = new_plan(BNORM_TRAINING_FORWARD, MINIBATCH);
    norm->backward = new_plan(BNORM_BACKWARD, MINIBATCH);
    norm->inference = new_plan(BNORM_INFERENCE, TEST);
    for (int i = 0; i < HIDDEN; ++i) {
        norm->gamma[i] = 1.0F;
        norm->beta[i] = 0.0F;
        norm->running_mean[i] = 0.0F;
        norm->running_var[i] = 1.0F;
    }
}

static void batch_norm_destroy(batch_norm* norm) {
    bnorm_plan_destroy(norm->forward);
    bnorm_plan_destroy(norm->backward);
    bnorm_plan_destroy(norm->inference);
}

static void batch_norm_train(batch_norm* norm, const float* x, float* y) {
    const bnorm_training_forward_args args = {.x = x,
                                              .y = y,
                                              .gamma = norm->gamma,
                                              .beta = norm->beta,
                                              .mean = norm->mean,
                                              .inv_std = norm->inv_std,
                                              .running_mean = norm->running_mean,
                                              .running_var = norm->running_var,
                                              .momentum = 0.1};
    must(bnorm_training_forward(norm->forward, &args));
}

static void batch_norm_infer(const batch_norm* norm, const float* x, float* y) {
    const bnorm_inference_args args = {.x = x,
                                       .y = y,
                                       .gamma = norm->gamma,
                                       .beta = norm->beta,
                                       .running_mean = norm->running_mean,
                                       .running_var = norm->running_var};
    must(bnorm_inference(norm->inference, &args));
}

/* In place: the gradient of y becomes that of x; gamma and beta take their step. */
static void batch_norm_step(batch_norm* norm, const float* x, float* gradient, float learning_rate) {
    const bnorm_backward_args args = {.dy = gradient,
                                      .x = x,
                                      .gamma = norm->gamma,
                                      .mean = norm->mean,
                                      .inv_std = norm->inv_std,
                                      .dx = gradient,
                                      .dgamma = norm->dgamma,
                                      .dbeta = norm->dbeta};
    must(bnorm_backward(norm->backward, &args));
    for (int i = 0; i < HIDDEN; ++i) {
        norm->gamma[i] -= learning_rate * norm->dgamma[i];
        norm->beta[i] -= learning_rate * norm->dbeta[i];
    }
}

/* ---- Network ----------------------------------------------------------------------------------------------------- */

typedef struct {
    int normalized; /* with batch norm or without */
    dense_layer dense[LAYERS];
    batch_norm norm[HIDDEN_LAYERS];
    float* sum[LAYERS];          /* output of each dense layer, rows x its outputs */
    float* state[HIDDEN_LAYERS]; /* output of each sigmoid */
    float *gradient, *input_gradient;
} network;

static void network_create(network* net, int normalized, uint64_t seed) {
    net->normalized = normalized;
    for (int i = 0; i < LAYERS; ++i) {
        net->dense[i] = new_dense(i == 0 ? PIXELS : HIDDEN, i == HIDDEN_LAYERS ? DIGITS : HIDDEN, &seed);
        net->sum[i] = new_floats((size_t)TEST * HIDDEN);
        if (i < HIDDEN_LAYERS) {
            net->state[i] = new_floats((size_t)TEST * HIDDEN);
            batch_norm_create(&net->norm[i]);
        }
    }
    net->gradient = new_floats((size_t)MINIBATCH * HIDDEN);
    net->input_gradient = new_floats((size_t)MINIBATCH * HIDDEN);
}

static void network_destroy(network* net) {
    for (int i = 0; i < LAYERS; ++i) {
        free(net->dense[i].weights);
        free(net->dense[i].bias);
        free(net->sum[i]);
        if (i < HIDDEN_LAYERS) {
            free(net->state[i]);
            batch_norm_destroy(&net->norm[i]);
        }
    }
    free(net->gradient);
    free(net->input_gradient);
}

static const float* network_scores(network* net, int rows, const float* pixels, int training) {
    const float* input = pixels;
    for (int i = 0; i < HIDDEN_LAYERS; ++i) {
        const float* before_sigmoid = net->sum[i];
        dense_forward(&net->dense[i], rows, input, net->sum[i]);
        if (net->normalized) {
            before_sigmoid = net->state[i];
            if (training) {
                batch_norm_train(&net->norm[i], net->sum[i], net->state[i]);
            } else {
                batch_norm_infer(&net->norm[i], net->sum[i], net->state[i]);
            }
        }
        sigmoid_forward(rows * HIDDEN, before_sigmoid, net->state[i]);
        input = net->state[i];
    }
    dense_forward(&net->dense[HIDDEN_LAYERS], rows, input, net->sum[HIDDEN_LAYERS]);
    return net->sum[HIDDEN_LAYERS];
}

/* One step of gradient descent on one minibatch. */
static void network_step(network* net, const float* pixels, const int* digits, float learning_rate) {
    const float* scores = network_scores(net, MINIBATCH, pixels, 1);
    cross_entropy_gradient(MINIBATCH, scores, digits, net->gradient);
    for (int i = HIDDEN_LAYERS; i >= 0; --i) {
        if (i < HIDDEN_LAYERS) {
            sigmoid_backward(MINIBATCH * HIDDEN, net->state[i], net->gradient);
            if (net->normalized) {
                batch_norm_step(&net->norm[i], net->sum[i], net->gradient, learning_rate);
            }
        }
        if (i > 0) {
            dense_input_gradient(&net->dense[i], MINIBATCH, net->gradient, net->input_gradient);
        }
        dense_step(&net->dense[i], MINIBATCH, i > 0 ? net->state[i - 1] : pixels, net->gradient, learning_rate);
        float* used = net->gradient;
        net->gradient = net->input_gradient;
        net->input_gradient = used;
    }
}

static void network_epoch(network* net, const digit_set* set, const int* order, float learning_rate) {
    float pixels[MINIBATCH][PIXELS];
    int digits[MINIBATCH];
    for (int first = 0; first < TRAINING; first += MINIBATCH) {
        for (int i = 0; i < MINIBATCH; ++i) {
            memcpy(pixels[i], set->pixels[order[first + i]], sizeof pixels[i]);
            digits[i] = set->digits[order[first + i]];
        }
        network_step(net, pixels[0], digits, learning_rate);
    }
}

/* The share of the test digits that the network reads right, in percent. */
static double network_accuracy(network* net, const digit_set* set) {
    const float* scores = network_scores(net, TEST, set->pixels[TRAINING], 0);
    int right = 0;
    for (int row = 0; row < TEST; ++row, scores += DIGITS) {
        int best = 0;
        for (int i = 1; i < DIGITS; ++i) {
            best = scores[i] > scores[best] ? i : best;
        }
        right += best == set->digits[TRAINING + row];
    }
    return 100.0 * right / TEST;
}

/* ---- Main program ------------------------------------------------------------------------------------------------ */

typedef struct {
    int epochs;
    float learning_rate;
    uint64_t seed;
    const char* data;
    const char* csv; /* NULL: none */
    int check;
} options;

enum { MAX_EPOCHS = 10000 };

static void usage(void) {
    puts("usage: train_digits [options]\n"
         "  --epochs N           passes over the training digits (default 60)\n"
         "  --learning-rate R    of gradient descent, the same for both networks (default 0.5)\n"
         "  --seed N             of the weights, the split and the order (default 1)\n"
         "  --data FILE          the digits (default " DIGITS_CSV ")\n"
         "  --csv FILE           also write epoch,plain,batch_norm there\n"
         "  --check              fail unless batch norm gets where the plain network ends in half the epochs or fewer");
}

static options parse(int count, char** words) {
    options chosen = {.epochs = 60, .learning_rate = 0.5F, .seed = 1, .data = DIGITS_CSV};
    for (int i = 1; i < count; ++i) {
        const char* word = words[i];
        if (strcmp(word, "--help") == 0) {
            usage();
            exit(0);
        }
        if (strcmp(word, "--check") == 0) {
            chosen.check = 1;
            continue;
        }
        const char* value = i + 1 < count ? words[++i] : "";
        char* end = NULL;
        if (strcmp(word, "--epochs") == 0) {
            chosen.epochs = (int)strtol(value, &end, 10);
        } else if (strcmp(word, "--learning-rate") == 0) {
            chosen.learning_rate = strtof(value, &end);
        } else if (strcmp(word, "--seed") == 0) {
            chosen.seed = strtoull(value, &end, 10);
        } else if (strcmp(word, "--data") == 0) {
            chosen.data = value;
        } else if (strcmp(word, "--csv") == 0) {
            chosen.csv = value;
        } else {
            stop(word, "no such option; --help tells what there is");
        }
        if (value[0] == '\0' || (end != NULL && *end != '\0')) {
            stop(word, "needs a value");
        }
    }
    if (chosen.epochs < 1 || chosen.epochs > MAX_EPOCHS || !(chosen.learning_rate > 0.0F)) {
        stop("options", "epochs from 1 to 10000 and a learning rate above 0, please");
    }
    return chosen;
}

enum { PLOT = 60 };

/* One line of the picture: time runs downwards, accuracy to the right. */
static void show_epoch(int epoch, double plain, double normalized) {
    char plot[PLOT + 2];
    memset(plot, ' ', PLOT + 1);
    plot[PLOT + 1] = '\0';
    plot[(int)(plain / 100.0 * PLOT + 0.5)] = 'o';
    plot[(int)(normalized / 100.0 * PLOT + 0.5)] = '#';
    printf("%5d   %5.1f %%    %5.1f %%   |%s|\n", epoch, plain, normalized, plot);
    fflush(stdout);
}

static int first_epoch_at(const double* accuracy, int epochs, double goal) {
    for (int epoch = 0; epoch < epochs; ++epoch) {
        if (accuracy[epoch] >= goal) {
            return epoch + 1;
        }
    }
    return 0;
}

/* Whether batch norm got where the plain network ended in half the epochs or fewer. */
static int report(const double* plain, const double* normalized, int epochs) {
    double best = 0.0;
    for (int epoch = 0; epoch < epochs; ++epoch) {
        best = fmax(best, plain[epoch]);
    }
    const int plain_epoch = first_epoch_at(plain, epochs, best);
    const int normalized_epoch = first_epoch_at(normalized, epochs, best);
    printf("\nThe plain network's best is %.1f %%, in epoch %d. ", best, plain_epoch);
    if (normalized_epoch == 0) {
        puts("The one with batch norm does not reach it.");
    } else {
        printf("With batch norm it is reached in epoch %d.\n", normalized_epoch);
    }
    return normalized_epoch > 0 && 2 * normalized_epoch <= plain_epoch;
}

static void write_csv(const char* path, const double* plain, const double* normalized, int epochs) {
    FILE* file = fopen(path, "w");
    if (file == NULL) {
        stop(path, "cannot be written");
    }
    fprintf(file, "epoch,plain,batch_norm\n");
    for (int epoch = 0; epoch < epochs; ++epoch) {
        fprintf(file, "%d,%.2f,%.2f\n", epoch + 1, plain[epoch], normalized[epoch]);
    }
    if (fclose(file) != 0) {
        stop(path, "cannot be written");
    }
}

static digit_set digits;
static network plain, normalized;
static double plain_accuracy[MAX_EPOCHS], normalized_accuracy[MAX_EPOCHS];

int main(int argc, char** argv) {
    const options chosen = parse(argc, argv);
    uint64_t order_random = chosen.seed;
    int order[TRAINING];

    read_digits(chosen.data, chosen.seed, &digits);
    network_create(&plain, 0, chosen.seed);
    network_create(&normalized, 1, chosen.seed);
    for (int i = 0; i < TRAINING; ++i) {
        order[i] = i;
    }
    bnorm_isa isa = BNORM_ISA_AUTO;
    must(bnorm_get_isa(&isa));
    printf("bnorm %s, %s. %d digits to learn from, %d to be tested on, minibatches of %d, learning rate %g.\n\n",
           bnorm_version(), bnorm_isa_name(isa), TRAINING, TEST, MINIBATCH, (double)chosen.learning_rate);
    printf("        digits read right\n");
    printf("epoch   plain (o)  batch norm (#)\n");
    for (int epoch = 0; epoch < chosen.epochs; ++epoch) {
        shuffle(order, TRAINING, &order_random);
        network_epoch(&plain, &digits, order, chosen.learning_rate);
        network_epoch(&normalized, &digits, order, chosen.learning_rate);
        plain_accuracy[epoch] = network_accuracy(&plain, &digits);
        normalized_accuracy[epoch] = network_accuracy(&normalized, &digits);
        show_epoch(epoch + 1, plain_accuracy[epoch], normalized_accuracy[epoch]);
    }
    const int faster = report(plain_accuracy, normalized_accuracy, chosen.epochs);
    if (chosen.csv != NULL) {
        write_csv(chosen.csv, plain_accuracy, normalized_accuracy, chosen.epochs);
    }
    network_destroy(&plain);
    network_destroy(&normalized);
    return chosen.check && !faster ? 1 : 0;
}
