/* All that is compiled, as one file: the parts share their products. */

#include "fused.c"

#include "hearing.c"

#include "detecting.c"
