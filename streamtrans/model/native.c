/* All that is compiled, as one file: the parts share their products. */

#include "products.c"

#include "fused.c"

#include "hearing.c"

#include "detecting.c"
