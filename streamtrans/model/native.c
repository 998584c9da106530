/* All that is compiled, as one file: the parts share their products. */

#include "products.c"

#include "fused.c"

#include "hearing.c"

#include "detecting.c"

/* Read so many numbers once, and do nothing else: what no pass over as many weights can take less than. */
uint64_t streamtrans_read(const uint64_t *numbers, long count, int threads) {
    uint64_t sum = 0;
#pragma omp parallel for simd reduction(+ : sum) num_threads(threads) schedule(static)
    for (long at = 0; at < count; at++) sum += numbers[at];
    return sum;
}
