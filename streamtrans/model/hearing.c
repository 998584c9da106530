/* An encoder that hears in blocks, from sound to what texts attend to, as one call. model/ear.py lays it out.

   Law: as in products.c, every sum is taken in one order. What a run of speech gives doesn't depend on the runs beside it,
   nor on how many of its blocks are heard in one call, to the last bit; nothing is padded.

   Spectra are products with cosines and sines. Convolutions are products too: what they read lies side by side. */

typedef struct { Norm before, mlp_norm; Linear qkv, out, up, down; } Layer;

typedef struct {
    Linear spectrum, filters;     /* (window → bins real, bins imaginary), (bins → mels) */
    Linear first, second;         /* convolutions of three columns, side by side; the second goes on by two */
    Norm norm;                    /* behind the last layer */
    const Layer *layers;
    const Linear *crossings;      /* keys, then values, of each that attends to the encoder */
    const float *cosines, *sines; /* (block + left, D / 2) */
    int32_t depth, readers, heads, reader_heads;
    int32_t width, inner, reader_width;
    int32_t hop, bins, mels;      /* bins and mels up to whole vectors */
    int32_t block, left;
} Ear;

typedef struct {
    const float *sound;           /* what column c reads begins at c * hop */
    int32_t begin, end;           /* of the columns, the first two of which are before the frames, the real ones */
    int32_t frames, known;        /* new, from the beginning of a block on; and those before them, at most left */
    const float *keys, *values;   /* (depth, heads, known, D), not turned to their positions */
    float *own_keys, *own_values; /* (depth, heads, frames, D) */
    float *cross_keys;            /* (readers, reader_heads, D, frames) */
    float *cross_values;          /* (readers, reader_heads, frames, D) */
} Run;

/* The mel columns of one run, as (log10 + 2) / 2 with a floor; zeros where they aren't real. */
static void listen(const Ear *e, const Run *r, float *spectrum, float *power, float *mel) {
    int bins = e->bins;
    linear(&e->spectrum, r->sound, e->hop, r->end, spectrum, 2 * bins, SET, 0);
#pragma omp for schedule(static)
    for (int c = 0; c < r->end; c++)
        for (int n = 0; n < bins; n += LANES) {
            lanes real = *(lanes *)(spectrum + 2L * c * bins + n), other = *(lanes *)(spectrum + (2L * c + 1) * bins + n);
            *(lanes *)(power + (long)c * bins + n) = real * real + other * other;
        }
    linear(&e->filters, power, bins, r->end, mel, e->mels, SET, 0);
#pragma omp for schedule(static)
    for (int c = 0; c < r->end; c++)
        for (int n = 0; n < e->mels; n++) {
            float *at = mel + (long)c * e->mels + n;
            *at = c < r->begin ? 0.0f : log10f(*at < 1e-6f ? 1e-6f : *at) * 0.5f + 1.0f; /* no number stays none */
        }
}

/* Two convolutions: columns (1 + columns + 1, mels), zeros at both ends, become x (frames, width). */
static void convolve(const Ear *e, const Run *r, const float *mel, float *wide, float *x) {
    linear(&e->first, mel, e->mels, r->end, wide, e->width, GELU, 0);
#pragma omp for schedule(static)
    for (int c = 0; c <= r->end; c++)
        if (c < r->begin || c == r->end) memset(wide + (long)c * e->width, 0, e->width * sizeof(float));
    linear(&e->second, wide + e->width, 2L * e->width, r->frames, x, e->width, GELU, 0);
}

inlined void turn(const float *from, const float *cosines, const float *sines, int half, float scale, float *to, int step) {
    for (int n = 0; n < half; n++) {
        float first = from[n] * scale, second = from[half + n] * scale;
        to[n * step] = first * cosines[n] - second * sines[n];
        to[(half + n) * step] = first * sines[n] + second * cosines[n];
    }
}

/* One head of one run in one layer: each block sees itself and what stands before, positions counted from there. */
static void look(const Ear *e, const Run *r, int layer, int head, const float *qkv, float *seen, float *room) {
    int d = e->width / e->heads, half = d / 2, most = ceiling(e->block + e->left);
    long step = 3L * e->width, before = ((long)layer * e->heads + head) * r->known * d;
    long own = ((long)layer * e->heads + head) * r->frames * d;
    float *keys = room, *values = keys + (long)most * d, *queries = values + (long)most * d, *scores = queries + ROWS * d;
    for (int f = 0; f < r->frames; f++) {
        memcpy(r->own_keys + own + (long)f * d, qkv + f * step + e->width + head * d, d * sizeof(float));
        memcpy(r->own_values + own + (long)f * d, qkv + f * step + 2 * e->width + head * d, d * sizeof(float));
    }
    for (int first = 0; first < r->frames; first += e->block) {
        int last = first + e->block < r->frames ? first + e->block : r->frames;
        int from = first - e->left > -r->known ? first - e->left : -r->known, count = last - from;
        int columns = ceiling(count);
        for (int t = from; t < last; t++) {
            const float *key = t < 0 ? r->keys + before + (long)(r->known + t) * d : r->own_keys + own + (long)t * d;
            long at = (long)(t - from) * half;
            turn(key, e->cosines + at, e->sines + at, half, 1.0f, keys + t - from, columns);
        }
        if (from < 0) memcpy(values, r->values + before + (long)(r->known + from) * d, -from * d * sizeof(float));
        int kept = from < 0 ? -from : 0, begin = from < 0 ? 0 : from;
        memcpy(values + (long)kept * d, r->own_values + own + (long)begin * d, (last - begin) * d * sizeof(float));
        for (int f = first; f < last; f += ROWS) {
            int some = last - f < ROWS ? last - f : ROWS;
            for (int i = 0; i < some; i++) {
                long at = (long)(f + i - from) * half;
                turn(qkv + (f + i) * step + head * d, e->cosines + at, e->sines + at, half, 1.0f / sqrtf(d),
                     queries + i * d, 1);
            }
            product(FLOAT, queries, d, some, keys, 0, columns, d, count, scores, columns);
            for (int i = 0; i < some; i++) softmax(scores + (long)i * columns, count);
            product(FLOAT, scores, columns, some, values, 0, d, count, d, seen + (long)f * e->width + head * d, e->width);
        }
    }
}

/* Keys and values (frames, 2 * reader_width) of one reader, laid as texts attend to them. */
static void lay(const Ear *e, const Run *r, int reader, const float *made) {
    int width = e->reader_width, d = width / e->reader_heads;
    float *keys = r->cross_keys + (long)reader * width * r->frames, *values = r->cross_values + (long)reader * width * r->frames;
    for (int f = 0; f < r->frames; f++, made += 2 * width) {
        for (int n = 0; n < width; n++) keys[(long)n * r->frames + f] = made[n];
        for (int h = 0; h < e->reader_heads; h++)
            memcpy(values + ((long)h * r->frames + f) * d, made + width + h * d, d * sizeof(float));
    }
}

/* Hear what is new of each run. Returns 0, or 1 where memory is wanting. */
int streamtrans_hear(const Ear *e, const Run *runs, int count, int threads) {
    long columns = 0, rows = 0, longest = 0, width = e->width, wide = 3 * width;
    if (e->inner > wide) wide = e->inner;
    if (2 * e->reader_width > wide) wide = 2 * e->reader_width;
    for (int t = 0; t < count; t++) {
        rows += runs[t].frames;
        if (runs[t].end > longest) longest = runs[t].end;
    }
    columns = longest + 2;
    /* Each thread normalises, quantises and attends for itself: that is cheaper than waiting for another. */
    long sound = columns * (3L * e->bins + e->mels + width), shared = rows * (wide + 2 * width) + sound;
    long each = ceiling(rows * (width + narrowed(wide)));
    each += ceiling((2L * ceiling(e->block + e->left) + ROWS) * (width / e->heads) + ROWS * (long)ceiling(e->block + e->left));
    float *room = aligned_alloc(64, (size_t)(ceiling(shared) + threads * each) * sizeof(float));
    if (!room) return 1;
    float *x = room, *seen = x + rows * width, *inner = seen + rows * width, *spectrum = inner + rows * wide;
    float *power = spectrum + columns * 2 * e->bins, *mel = power + columns * e->bins, *heard = mel + columns * e->mels;
#pragma omp parallel num_threads(threads)
    {
        float *normed = room + ceiling(shared) + omp_get_thread_num() * each;
        uint8_t *bytes = (uint8_t *)(normed + rows * width);
        float *own = normed + ceiling(rows * (width + narrowed(wide)));
        long first = 0;
        for (int t = 0; t < count; first += runs[t++].frames) {
#pragma omp single
            {
                memset(mel, 0, e->mels * sizeof(float));
                memset(mel + (runs[t].end + 1L) * e->mels, 0, e->mels * sizeof(float));
            }
            listen(e, runs + t, spectrum, power, mel + e->mels);
            convolve(e, runs + t, mel, heard, x + first * width);
        }
        for (int l = 0; l < e->depth; l++) {
            const Layer *layer = e->layers + l;
            normalise(&layer->before, x, rows, width, normed);
            linear(&layer->qkv, normed, width, rows, inner, 3 * width, SET, bytes);
            first = 0;
            for (int t = 0; t < count; first += runs[t++].frames)
#pragma omp for schedule(static) nowait
                for (int head = 0; head < e->heads; head++)
                    look(e, runs + t, l, head, inner + first * 3 * width, seen + first * width, own);
#pragma omp barrier
            linear(&layer->out, seen, width, rows, x, width, ADD, bytes);
            normalise(&layer->mlp_norm, x, rows, width, normed);
            linear(&layer->up, normed, width, rows, inner, e->inner, GELU, bytes);
            linear(&layer->down, inner, e->inner, rows, x, width, ADD, bytes);
        }
        normalise(&e->norm, x, rows, width, normed);
        for (int a = 0; a < e->readers; a++) {
            linear(e->crossings + a, normed, width, rows, inner, 2 * e->reader_width, SET, bytes);
            first = 0;
            for (int t = 0; t < count; first += runs[t++].frames)
#pragma omp single
                lay(e, runs + t, a, inner + first * 2 * e->reader_width);
        }
    }
    free(room);
    return 0;
}
