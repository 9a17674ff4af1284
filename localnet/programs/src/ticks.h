/* Ticks and square-root prices (Q64.64), bit for bit as the core of this project has them.
 *
 * Sources of the method and of its constants: Uniswap v3's tick math as Orca's program adapted it.
 */
#pragma once
#include "wide.h"

#define MIN_TICK (-443636)
#define MAX_TICK 443636
static const U128 MIN_PRICE = {4295048016ull, 0};
static const U128 MAX_PRICE = {3871828160200520623ull, 4294886577ull};

/* sqrt(1.0001^(2^i)) in Q32.96. */
static const U128 ABOVE_ONE[19] = {
    {18379584988209926159ull, 4295182038ull},
    {13458744476178488859ull, 4295396792ull},
    {7542374851780082549ull, 4295826332ull},
    {11688190168964099665ull, 4296685540ull},
    {12325950504610477152ull, 4298404472ull},
    {743749799984496066ull, 4301844400ull},
    {12976902672507316901ull, 4308732515ull},
    {8371584169514950494ull, 4322541852ull},
    {2262161228410220004ull, 4350293443ull},
    {14459650751607002531ull, 4406332280ull},
    {7840076245800284593ull, 4520584868ull},
    {7174944039344897962ull, 4758054286ull},
    {358097327435643877ull, 5271071706ull},
    {11388944843577404226ull, 6469012454ull},
    {1754717824462694519ull, 9743525213ull},
    {11498634451058391528ull, 22104076011ull},
    {5866026427582439525ull, 113758765237ull},
    {17854934707512043213ull, 3013074553645ull},
    {10158072769176329423ull, 2113780534320708ull},
};

/* sqrt(1.0001^-(2^i)) in Q64.64. */
static const u64 BELOW_ONE[19] = {
    18445821805675392311ull,
    18444899583751176498ull,
    18443055278223354162ull,
    18439367220385604838ull,
    18431993317065449817ull,
    18417254355718160513ull,
    18387811781193591352ull,
    18329067761203520168ull,
    18212142134806087854ull,
    17980523815641551639ull,
    17526086738831147013ull,
    16651378430235024244ull,
    15030750278693429944ull,
    12247334978882834399ull,
    8131365268884726200ull,
    3584323654723342297ull,
    696457651847595233ull,
    26294789957452057ull,
    37481735321082ull,
};

/* The price of a tick, which is in range. */
APART void price_of_tick(i32 tick, U128 *price) {
    if (tick < 0) {
        u32 left = (u32)-tick;
        u64 ratio = 0;
        for (u32 bit = 0; left; bit++, left >>= 1) {
            /* One is 2^64, which a word does not hold: the first factor stands for itself. */
            if (left & 1 && ratio) multiply(ratio, BELOW_ONE[bit], &ratio);
            else if (left & 1) ratio = BELOW_ONE[bit];
        }
        *price = (U128){ratio, 0};
        return;
    }
    U128 ratio = {0, 1ull << 32};
    u32 left = (u32)tick;
    for (u32 bit = 0; left; bit++, left >>= 1) {
        if (!(left & 1)) continue;
        U256 product;
        multiply_wide(&product, &ratio, &ABOVE_ONE[bit]);
        ratio = (U128){(product.w[1] >> 32) | (product.w[2] << 32), (product.w[2] >> 32) | (product.w[3] << 32)};
    }
    *price = (U128){(ratio.lo >> 32) | (ratio.hi << 32), ratio.hi >> 32};
}

/* The greatest tick whose price is not above this one, which is in range: a binary logarithm of 14 bits leaves two. */
APART i32 tick_of_price(const U128 *price) {
    u32 top = price->hi ? 127 - leading_zeros(price->hi) : 63 - leading_zeros(price->lo);
    u64 r = price->lo;
    if (top < 63) r <<= 63 - top;
    if (top > 63) r = (price->hi << (127 - top)) | (price->lo >> (top - 63));
    i64 log2 = ((i64)top - 64) * (1ll << 32);
    for (u32 bit = 0; bit < 14; bit++) {
        u64 high, low = multiply(r, r, &high);
        if (high >> 63) {
            log2 += 1ll << (31 - bit);
            r = high;
        } else {
            r = (high << 1) | (low >> 63);
        }
    }
    /* Times log2 over log sqrt(1.0001), in two's complement. */
    u64 high, low = multiply((u64)(log2 < 0 ? -log2 : log2), 59543866431248ull, &high);
    U128 log = {low, high};
    if (log2 < 0) log = minus((U128){0, 0}, log);
    i32 below = (i32)(i64)minus(log, (U128){184467440737095516ull, 0}).hi;
    i32 above = (i32)(i64)plus(log, (U128){15793534762490258745ull, 0}).hi;
    if (below == above || above > MAX_TICK) return below;
    U128 of_above;
    price_of_tick(above, &of_above);
    return less(*price, of_above) ? below : above;
}
