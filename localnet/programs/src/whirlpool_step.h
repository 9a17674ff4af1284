/* One step of a swap: from the present price towards a target, at constant liquidity. Amounts in are rounded up, amounts
 * out down, prices in the pool's favour; what the real program could not hold in its integers fails here as well. */
#pragma once

typedef struct { u64 in, out, fee; U128 price; } Step;

/* liquidity * (upper - lower) << 64, and upper * lower: their quotient is the amount of token a between two prices. */
INLINE u64 fraction_a(const U128 *p, const U128 *q, const U128 *liquidity, U256 *above, U256 *below) {
    U128 apart = less(*p, *q) ? minus(*q, *p) : minus(*p, *q);
    multiply_wide(above, liquidity, &apart);
    MUST(shift_word(above), MULTIPLICATION_OVERFLOW);
    multiply_wide(below, p, q);
    return 0;
}

INLINE u64 quotient_a(const U256 *above, const U256 *below, u64 up, u64 *amount) {
    U256 quotient;
    u64 rest = divide_wide(&quotient, above, below);
    if (up && rest) {
        u64 over = 1;
        for (u32 word = 0; word < 4; word++) {
            quotient.w[word] += over;
            over = over && !quotient.w[word];
        }
    }
    MUST(!(quotient.w[2] | quotient.w[3]), NUMBER_DOWN_CAST);
    MUST(!quotient.w[1], TOKEN_MAX_EXCEEDED);
    *amount = quotient.w[0];
    return 0;
}

/* The amount of token a between two prices. */
APART u64 amount_a(const U128 *p, const U128 *q, const U128 *liquidity, u64 up, u64 *amount) {
    U256 above, below;
    TRY(fraction_a(p, q, liquidity, &above, &below));
    return quotient_a(&above, &below, up, amount);
}

/* The amount of token b between two prices: liquidity * (upper - lower). */
APART u64 amount_b(const U128 *p, const U128 *q, const U128 *liquidity, u64 up, u64 *amount) {
    U256 product;
    U128 apart = less(*p, *q) ? minus(*q, *p) : minus(*p, *q);
    multiply_wide(&product, liquidity, &apart);
    MUST(!(product.w[2] | product.w[3]), SHIFT_RIGHT_OVERFLOW);
    *amount = product.w[1];
    if (up && product.w[0]) MUST(++*amount, MULTIPLICATION_OVERFLOW);
    return 0;
}

/* The price after so much of token a came in, rounded up. */
APART u64 price_after_a(const Run *r, u64 amount, U128 *price) {
    U256 above, below, quotient;
    U128 wide = {amount, 0};
    *price = r->price;
    if (!amount) return 0;
    multiply_wide(&above, &r->liquidity, &r->price);
    MUST(shift_word(&above), MULTIPLICATION_OVERFLOW);
    multiply_wide(&below, &r->price, &wide);
    u64 over = 0;
    carry(&below.w[1], &over, r->liquidity.lo);
    carry(&below.w[2], &below.w[3], over);
    carry(&below.w[2], &below.w[3], r->liquidity.hi);
    u64 rest = divide_wide(&quotient, &above, &below);
    if (rest && !++quotient.w[0]) quotient.w[1]++;
    MUST(!(quotient.w[2] | quotient.w[3]), NUMBER_DOWN_CAST);
    *price = (U128){quotient.w[0], quotient.w[1]};
    MUST(!less(*price, MIN_PRICE), TOKEN_MIN_SUBCEEDED);
    MUST(!less(MAX_PRICE, *price), TOKEN_MAX_EXCEEDED);
    return 0;
}

/* The price after so much of token b came in, rounded down. */
APART u64 price_after_b(const Run *r, u64 amount, U128 *price) {
    MUST(!is_zero(r->liquidity), DIVIDE_BY_ZERO);
    *price = plus(r->price, divide_narrow(amount, 0, &r->liquidity));
    MUST(!less(*price, r->price), PRICE_OUT_OF_BOUNDS);
    return 0;
}

/* Swap up to what remains between the price and the target. */
APART u64 take_step(Step *s, const Run *r, const U128 *target) {
    u64 usable, rate = r->fee_rate;
    const U128 *price = &r->price, *liquidity = &r->liquidity;
    TRY(scale(&usable, r->remaining, FEE_UNIT - rate, FEE_UNIT, 0));
    int reached;
    if (r->a_to_b) {
        U256 above, below;
        TRY(fraction_a(price, target, liquidity, &above, &below));
        /* Whether the amount, rounded up, is at most what there is: no division is needed to know. */
        reached = at_most_product(&above, usable, &below);
        if (reached) {
            s->price = *target;
            TRY(quotient_a(&above, &below, 1, &s->in));
        } else {
            TRY(price_after_a(r, usable, &s->price));
            TRY(amount_a(price, &s->price, liquidity, 1, &s->in));
        }
        TRY(amount_b(price, &s->price, liquidity, 0, &s->out));
    } else {
        reached = !amount_b(price, target, liquidity, 1, &s->in) && s->in <= usable;
        if (reached) s->price = *target;
        else TRY(price_after_b(r, usable, &s->price));
        TRY(amount_a(price, &s->price, liquidity, 0, &s->out));
        if (!reached) TRY(amount_b(price, &s->price, liquidity, 1, &s->in));
    }
    /* A swap may also end on the target by rounding. */
    if (!equal(s->price, *target)) {
        MUST(s->in <= r->remaining, AMOUNT_REMAINING_OVERFLOW);
        s->fee = r->remaining - s->in;
        return 0;
    }
    MUST(!scale(&s->fee, s->in, rate, FEE_UNIT - rate, 1), NUMBER_CAST);
    return 0;
}
