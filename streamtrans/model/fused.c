/* A pass through decoder layers in slots, as one call. model/fused.py lays them out.

   Law: as in products.c. Holes between slots, unequal lengths and unequal memories cost nothing, for nothing is padded
   or copied. Widths of heads and of the model are multiples of 16. */

typedef struct {
    Norm before, after, cross_norm, mlp_norm; /* of what attention to the text reads, and of what it answers */
    Linear qkv, out, cross_q, cross_out, up, down;
    uint64_t watched;       /* heads whose attention to the memory is wanted */
    int32_t first_watched;  /* where the first of them is written */
    int32_t span;           /* keys per position: KVSPN reads several layers */
    int32_t reads;          /* 0: writes keys and sees them; 1: sees those of others, written before; 2: and its own */
} Block;

typedef struct {
    void *keys, *values;               /* (slot, head, time, layer, D), from this block's first layer on */
    const void *cross_keys, *cross_values; /* (lane, head, D, frame), (lane, head, frame, D) */
    float *own_keys, *own_values;      /* (text, head, chain, D), of KVSPN */
} Memory;

typedef struct {
    int32_t first, rows;    /* its rows of the pass */
    int32_t slot, lane;     /* where its text lies, and its memory */
    int32_t begin, start;   /* keys seen: from there up to the positions of this pass */
    int32_t frames;         /* of its memory */
    int32_t chain;          /* own keys that stand before this pass */
} Text;

typedef struct {
    int32_t blocks, heads, width, kind;     /* kind of numbers in slots */
    int64_t slot, head, time;               /* steps of keys and values */
    int64_t frames;                         /* allocated per lane */
    int32_t chain, watched_frames;          /* own keys, and frames per watched row, that there is room for */
} Shape;

/* Scores of keys that lie as rows of d, steps apart. */
static void dots(const float *query, const void *keys, int kind, int count, long step, int d, float *scores) {
    for (int t = 0; t < count; t++) {
        lanes total = {};
        for (int n = 0; n < d; n += LANES) total += *(lanes *)(query + n) * load(keys, t * step + n, kind);
        scores[t] = sum(total);
    }
}

/* One head of one text: write its keys and values, then let each of its rows see what it may. */
static void attend(const Shape *s, const Block *b, const Memory *m, const Text *text, int number, int head,
                   const float *qkv, long qkv_step, float *seen, float *scores) {
    int d = s->width / s->heads, own = b->reads == 2;
    float scale = 1.0f / sqrtf(d);
    long base = text->slot * s->slot + head * s->head, first = base + text->begin * s->time;
    float *own_keys = 0, *own_values = 0;
    if (own) {
        long at = ((long)number * s->heads + head) * s->chain * d;
        own_keys = m->own_keys + at, own_values = m->own_values + at;
    }
    for (int r = 0; r < text->rows; r++) {
        const float *row = qkv + (text->first + r) * qkv_step + head * d;
        for (int n = 0; n < d && b->reads != 1; n += LANES) {
            long at = own ? (text->chain + r) * d + n : base + (text->start + r) * s->time + n;
            store(own ? own_keys : m->keys, at, own ? FLOAT : s->kind, *(lanes *)(row + s->width + n));
            store(own ? own_values : m->values, at, own ? FLOAT : s->kind, *(lanes *)(row + 2 * s->width + n));
        }
    }
    const char *keys = (const char *)m->keys + first * (s->kind == FLOAT ? 4 : 2);
    const char *values = (const char *)m->values + first * (s->kind == FLOAT ? 4 : 2);
    long step = b->span == 1 ? s->time : d; /* of several layers all are read, which lie side by side */
    for (int r = 0; r < text->rows; r++) {
        float query[d], more[d], *out = seen + (long)(text->first + r) * s->width + head * d;
        for (int n = 0; n < d; n++) query[n] = qkv[(text->first + r) * qkv_step + head * d + n] * scale;
        int count = (text->start - text->begin + (b->reads ? 0 : r + 1)) * b->span;
        int chain = own ? text->chain + r + 1 : 0;
        dots(query, keys, s->kind, count, step, d, scores);
        dots(query, own_keys, FLOAT, chain, d, d, scores + count);
        memset(out, 0, d * sizeof(float)); /* of nothing, nothing is seen */
        if (count + chain) softmax(scores, count + chain);
        if (count) product(s->kind, scores, 0, 1, values, 0, step, count, d, out, 0);
        if (chain) product(FLOAT, scores + count, 0, 1, own_values, 0, d, chain, d, more, 0);
        for (int n = 0; chain && n < d; n++) out[n] += more[n];
    }
}

/* One head of rows that attend to one memory. */
static void cross(const Shape *s, const Block *b, const Memory *m, int lane, int frames, int first, int rows, int head,
                  const float *queries, long q_step, float *seen, float *scores, float *watched, int all_rows) {
    int d = s->width / s->heads;
    float scale = 1.0f / sqrtf(d);
    long at = ((long)lane * s->heads + head) * d * s->frames, room = (frames + LANES - 1) / LANES * LANES;
    for (int r = 0; r < rows; r += ROWS) {
        int some = rows - r < ROWS ? rows - r : ROWS;
        float scaled[ROWS * d];
        for (int i = 0; i < some; i++)
            for (int n = 0; n < d; n++) scaled[i * d + n] = queries[(first + r + i) * q_step + head * d + n] * scale;
        product(s->kind, scaled, d, some, m->cross_keys, at, s->frames, d, frames, scores, room);
        for (int i = 0; i < some; i++) {
            softmax(scores + i * room, frames);
            if (!(b->watched >> head & 1)) continue;
            int place = b->first_watched + __builtin_popcountll(b->watched & ((1ull << head) - 1));
            memcpy(watched + ((long)place * all_rows + first + r + i) * s->watched_frames, scores + i * room,
                   frames * sizeof(float));
        }
        product(s->kind, scores, room, some, m->cross_values, at, d, frames, d,
                seen + (long)(first + r) * s->width + head * d, s->width);
    }
}

/* Take x (rows, width) through all blocks, in place. Returns 0, or 1 where memory is wanting. */
int streamtrans_pass(const Shape *s, const Block *blocks, const Memory *memories, float *x, int rows, const Text *texts,
                     int count, float *watched, int threads) {
    long width = s->width, wide = 3 * width, most = 0;
    for (int l = 0; l < s->blocks; l++) {
        if (blocks[l].up.outputs > wide) wide = blocks[l].up.outputs;
        for (int t = 0; t < count; t++) {
            long keys = (long)(texts[t].start + texts[t].rows) * blocks[l].span + texts[t].chain + texts[t].rows;
            long scores = ceiling(texts[t].frames) * ROWS;
            if (keys > most) most = keys;
            if (scores > most) most = scores;
        }
    }
    /* Each thread normalises, quantises and keeps scores for itself: that is cheaper than waiting for another. */
    long shared = rows * (wide + 2 * width), each = rows * (width + narrowed(wide)) + ceiling(most + LANES);
    each = ceiling(each);
    float *room = aligned_alloc(64, (size_t)(ceiling(shared) + threads * each) * sizeof(float));
    if (!room) return 1;
    float *inner = room, *seen = inner + rows * wide, *answer = seen + rows * width;
#pragma omp parallel num_threads(threads)
    {
        float *normed = room + ceiling(shared) + omp_get_thread_num() * each, *scores = normed + rows * width;
        uint8_t *bytes = (uint8_t *)(scores + ceiling(most + LANES));
        for (int l = 0; l < s->blocks; l++) {
            const Block *b = blocks + l;
            const Memory *m = memories + l;
            if (b->before.weight) normalise(&b->before, x, rows, width, normed);
            linear(&b->qkv, b->before.weight ? normed : x, width, rows, inner, wide, SET, bytes);
#pragma omp for collapse(2) schedule(static)
            for (int t = 0; t < count; t++)
                for (int head = 0; head < s->heads; head++)
                    attend(s, b, m, texts + t, t, head, inner, wide, seen, scores);
            if (!b->after.weight)
                linear(&b->out, seen, width, rows, x, width, ADD, bytes);
            else {
                linear(&b->out, seen, width, rows, answer, width, SET, bytes);
#pragma omp for schedule(static)
                for (int r = 0; r < rows; r++) {
                    normalise(&b->after, answer + r * width, 1, width, answer + r * width);
                    for (int n = 0; n < width; n++) x[r * width + n] += answer[r * width + n];
                }
            }
            normalise(&b->cross_norm, x, rows, width, normed);
            linear(&b->cross_q, normed, width, rows, inner, wide, SET, bytes);
#pragma omp for collapse(2) schedule(static)
            for (int t = 0; t < count; t++)
                for (int head = 0; head < s->heads; head++) {
                    /* Texts about one memory that stand together are read as one. */
                    if (t && texts[t - 1].lane == texts[t].lane) continue;
                    int some = texts[t].rows;
                    for (int next = t + 1; next < count && texts[next].lane == texts[t].lane; next++)
                        some += texts[next].rows;
                    cross(s, b, m, texts[t].lane, texts[t].frames, texts[t].first, some, head, inner, wide, seen,
                          scores, watched, rows);
                }
            linear(&b->cross_out, seen, width, rows, x, width, ADD, bytes);
            normalise(&b->mlp_norm, x, rows, width, normed);
            linear(&b->up, normed, width, rows, inner, wide, GELU, bytes);
            linear(&b->down, inner, wide, rows, x, width, ADD, bytes);
        }
    }
    free(room);
    return 0;
}
