/* Silero's detector over the windows of several streams, as one call. vad/silero_call.py lays it out.

   Law: as in products.c, every sum is taken in one order. What a stream gets doesn't depend on those beside it, nor on how
   many of its windows are read in one call, to the last bit. */

typedef struct {
    Linear spectrum;        /* (2 * hop → bins real, bins imaginary) */
    Linear layers[4];       /* convolutions of three frames, side by side; of the last the one in the middle */
    Linear gates, memory;   /* of what is read and of what was said last: in, forget, cell, out */
    const float *answer;    /* (width), then what is added */
    int32_t hop, bins, width;
} Detector;

inlined lanes sigmoid(lanes x) {
    x = choose(x < -80.0f, (lanes){} - 80.0f, choose(x > 80.0f, (lanes){} + 80.0f, x));
    return 1.0f / (1.0f + exponential(-x));
}

/* One window more of one stream: its gates so far become what it remembers and says. */
static void remember(float *gates, const float *read, int width, float *said, float *cell) {
    for (int n = 0; n < width; n += LANES) {
        lanes part[4];
        for (int g = 0; g < 4; g++) part[g] = *(lanes *)(gates + g * width + n) + *(lanes *)(read + g * width + n);
        lanes new = 2.0f * sigmoid(2.0f * part[2]) - 1.0f;
        lanes kept = *(lanes *)(cell + n) = sigmoid(part[1]) * *(lanes *)(cell + n) + sigmoid(part[0]) * new;
        *(lanes *)(said + n) = sigmoid(part[3]) * (2.0f * sigmoid(2.0f * kept) - 1.0f);
    }
}

/* Probabilities of windows, each (5 * hop) with what stands before it and mirrored at its end: stream after stream,
   counts[s] of each, streams with more of them first. said and cell (streams, width) go on. Returns 0, or 1 where
   memory is wanting. */
int streamtrans_detect(const Detector *d, const float *audio, const int32_t *counts, int streams, float *said,
                       float *cell, float *probabilities) {
    enum { FRAMES = 4 };
    long hop = d->hop, bins = d->bins, width = d->width, windows = 0;
    for (int s = 0; s < streams; s++) windows += counts[s];
    long wide[4], sizes[] = {2 * FRAMES * bins, (FRAMES + 2) * bins, 5L * d->layers[0].outputs, 3L * d->layers[1].outputs,
                             d->layers[2].outputs, width, 4 * width};
    long each = 0;
    for (int n = 0; n < 7; n++) each += sizes[n];
    float *room = aligned_alloc(64, (size_t)ceiling(windows * each + streams * 4 * width) * sizeof(float));
    if (!room) return 1;
    memset(room, 0, (size_t)windows * each * sizeof(float)); /* beside a window there is silence */
    float *at[8] = {room};
    for (int n = 0; n < 7; n++) at[n + 1] = at[n] + windows * sizes[n];
    for (int n = 0; n < 4; n++) wide[n] = d->layers[n].outputs;
    for (int f = 0; f < FRAMES; f++)
        linear(&d->spectrum, audio + f * hop, 5 * hop, windows, at[0] + f * 2 * bins, sizes[0], SET, 0);
    for (long w = 0; w < windows; w++)
        for (int f = 0; f < FRAMES; f++)
            for (int n = 0; n < bins; n += LANES) {
                float *from = at[0] + w * sizes[0] + f * 2 * bins + n;
                lanes real = *(lanes *)from, other = *(lanes *)(from + bins), power = real * real + other * other;
                for (int i = 0; i < LANES; i++) at[1][w * sizes[1] + (f + 1) * bins + n + i] = sqrtf(power[i]);
            }
    for (int f = 0; f < FRAMES; f++)
        linear(d->layers, at[1] + f * bins, sizes[1], windows, at[2] + (f + 1) * wide[0], sizes[2], RELU, 0);
    for (int f = 0; f < 2; f++)
        linear(d->layers + 1, at[2] + 2 * f * wide[0], sizes[2], windows, at[3] + (f + 1) * wide[1], sizes[3], RELU, 0);
    linear(d->layers + 2, at[3], sizes[3], windows, at[4], sizes[4], RELU, 0);
    linear(d->layers + 3, at[4], sizes[4], windows, at[5], sizes[5], RELU, 0);
    linear(&d->gates, at[5], width, windows, at[6], 4 * width, SET, 0);
    float *gates = at[7];
    for (int t = 0, going = streams; t < counts[0]; t++) {
        while (counts[going - 1] <= t) going--;
        linear(&d->memory, said, width, going, gates, 4 * width, SET, 0);
        long first = t;
        for (int s = 0; s < going; first += counts[s++]) {
            float *mine = said + s * width;
            remember(gates + 4 * s * width, at[6] + first * 4 * width, width, mine, cell + s * width);
            lanes total = {};
            for (int n = 0; n < width; n += LANES)
                total += choose(*(lanes *)(mine + n) < 0, (lanes){}, *(lanes *)(mine + n)) * *(lanes *)(d->answer + n);
            probabilities[first] = sigmoid((lanes){} + (sum(total) + d->answer[width]))[0];
        }
    }
    free(room);
    return 0;
}
