/* Integers of 128 and 256 bits. Division is Knuth's algorithm D with digits of 32 bits: the machine divides 64 bits by 64
 * in one instruction, and a call of a compiler's routine for more would cost ten times as much. */
#pragma once
#include "program.h"

typedef struct { u64 lo, hi; } U128;
typedef struct { u64 w[4]; } U256;

INLINE U128 u128_at(const u8 *at) { return (U128){u64_at(at), u64_at(at + 8)}; }
INLINE void put_u128(u8 *at, U128 value) { put_u64(at, value.lo); put_u64(at + 8, value.hi); }
INLINE int is_zero(U128 a) { return !(a.lo | a.hi); }
INLINE int equal(U128 a, U128 b) { return a.lo == b.lo && a.hi == b.hi; }
INLINE int less(U128 a, U128 b) { return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo); }
INLINE U128 plus(U128 a, U128 b) { return (U128){a.lo + b.lo, a.hi + b.hi + (a.lo + b.lo < a.lo)}; }
INLINE U128 minus(U128 a, U128 b) { return (U128){a.lo - b.lo, a.hi - b.hi - (a.lo < b.lo)}; }

/* *`at` += `amount`, `above` what it carries on to. */
INLINE void carry(u64 *at, u64 *above, u64 amount) {
    *at += amount;
    *above += *at < amount;
}

APART void multiply_wide(U256 *product, const U128 *a, const U128 *b) {
    u64 high, middle, top;
    product->w[0] = multiply(a->lo, b->lo, &high);
    u64 second = high, third = 0, fourth = 0;
    u64 low = multiply(a->lo, b->hi, &middle);
    carry(&second, &third, low);
    low = multiply(a->hi, b->lo, &top);
    carry(&second, &third, low);
    carry(&third, &fourth, middle);
    carry(&third, &fourth, top);
    low = multiply(a->hi, b->hi, &high);
    carry(&third, &fourth, low);
    product->w[1] = second;
    product->w[2] = third;
    product->w[3] = fourth + high;
}

/* `value` << 64, unless bits are lost. */
INLINE int shift_word(U256 *value) {
    if (value->w[3]) return 0;
    value->w[3] = value->w[2];
    value->w[2] = value->w[1];
    value->w[1] = value->w[0];
    value->w[0] = 0;
    return 1;
}

/* `value` <= `factor` * `by`, whatever the width of the product. */
APART int at_most_product(const U256 *value, u64 factor, const U256 *by) {
    u64 product[5] = {0, 0, 0, 0, 0};
    for (u32 word = 0; word < 4; word++) {
        u64 high, low = multiply(factor, by->w[word], &high);
        carry(&product[word], &high, low);
        product[word + 1] = high;
    }
    if (product[4]) return 1;
    for (i32 word = 3; word >= 0; word--)
        if (value->w[word] != product[word]) return value->w[word] < product[word];
    return 1;
}

INLINE u64 count_digits(const U256 *value) {
    u64 words = 4;
    while (words && !value->w[words - 1]) words--;
    return words ? 2 * words - !(value->w[words - 1] >> 32) : 0;
}

/* The quotient; tells whether there is a rest. `by` is not 0. */
APART u64 divide_wide(U256 *quotient, const U256 *value, const U256 *by) {
    const u32 *from = (const u32 *)value, *divisor = (const u32 *)by;
    u32 *digits = (u32 *)quotient, n[9], d[8];
    u64 count = count_digits(value), size = count_digits(by);
    quotient->w[0] = quotient->w[1] = quotient->w[2] = quotient->w[3] = 0;
    if (count < size) return count != 0;
    if (size == 1) {
        u64 rest = 0;
        for (i64 at = (i64)count - 1; at >= 0; at--) {
            u64 part = (rest << 32) | from[at];
            digits[at] = (u32)(part / divisor[0]);
            rest = part % divisor[0];
        }
        return rest != 0;
    }
    /* Both moved so that the divisor's top bit is set. */
    u32 shift = leading_zeros(divisor[size - 1]) - 32;
    u64 moved = 0;
    for (u64 at = 0; at < size; at++) {
        moved |= (u64)divisor[at] << shift;
        d[at] = (u32)moved;
        moved >>= 32;
    }
    moved = 0;
    for (u64 at = 0; at < count; at++) {
        moved |= (u64)from[at] << shift;
        n[at] = (u32)moved;
        moved >>= 32;
    }
    n[count] = (u32)moved;
    u64 first = d[size - 1], second = d[size - 2];
    for (i64 at = (i64)(count - size); at >= 0; at--) {
        u32 *part = n + at;
        u64 top = ((u64)part[size] << 32) | part[size - 1], guess = top / first, rest = top % first;
        while (guess >> 32 || guess * second > ((rest << 32) | part[size - 2])) {
            guess--;
            rest += first;
            if (rest >> 32) break;
        }
        if (!guess) continue;
        u64 owed = 0;
        for (u64 i = 0; i < size; i++) {
            u64 product = guess * d[i] + owed, had = part[i];
            part[i] = (u32)(had - (u32)product);
            owed = (product >> 32) + (had < (u32)product);
        }
        u64 had = part[size];
        part[size] = (u32)(had - owed);
        if (had < owed) {
            u64 over = 0;
            guess--;
            for (u64 i = 0; i < size; i++) {
                over += (u64)part[i] + d[i];
                part[i] = (u32)over;
                over >>= 32;
            }
            part[size] += (u32)over;
        }
        digits[at] = (u32)guess;
    }
    u32 left = 0;
    for (u64 at = 0; at < size; at++) left |= n[at];
    return left != 0;
}

/* (`high` 2^64 + `low`) / `by`, cut off; `by` is not 0. */
INLINE U128 divide_narrow(u64 high, u64 low, const U128 *by) {
    U256 value = {{low, high, 0, 0}}, divisor = {{by->lo, by->hi, 0, 0}}, quotient;
    divide_wide(&quotient, &value, &divisor);
    return (U128){quotient.w[0], quotient.w[1]};
}
