/* The fee that a transfer of a Token-2022 mint costs. Source of the layout and the formula: spl-token-2022's transfer
 * fee extension. */
#pragma once
#include "program.h"

typedef struct { u64 bps, most; } TransferFee;

/* Read the fee of an epoch from a mint; none is a fee of 0. Mints that call other programs on a transfer are refused. */
APART u64 transfer_fee(const Account *mint, u64 epoch, TransferFee *fee) {
    fee->bps = fee->most = 0;
    if (!same(mint->owner, TOKEN_2022) || mint->length <= TOKEN_ACCOUNT_LENGTH) return 0;
    u64 at = TOKEN_ACCOUNT_LENGTH + 1;
    while (at + 4 <= mint->length) {
        u64 kind = mint->data[at] | (u64)mint->data[at + 1] << 8;
        u64 length = mint->data[at + 2] | (u64)mint->data[at + 3] << 8;
        const u8 *body = mint->data + at + 4;
        if (!kind) break;
        MUST(at + 4 + length <= mint->length, INVALID_ACCOUNT_DATA);
        if (kind == 1) {
            MUST(length >= 108, INVALID_ACCOUNT_DATA);
            /* Two schedules: the newer one from its epoch on. */
            const u8 *schedule = body + (epoch >= u64_at(body + 90) ? 90 : 72);
            fee->most = u64_at(schedule + 8);
            fee->bps = u16_at(schedule + 16);
        } else if (kind == 14) {
            MUST(length >= 64, INVALID_ACCOUNT_DATA);
            MUST(!(u64_at(body + 32) | u64_at(body + 40) | u64_at(body + 48) | u64_at(body + 56)), NOT_BUILT);
        }
        at += 4 + length;
    }
    return 0;
}

/* What a transfer of this amount costs. */
APART u64 fee_of(const TransferFee *fee, u64 amount) {
    u64 raw;
    if (!fee->bps || scale(&raw, amount, fee->bps, 10000, 1)) return 0;
    return raw < fee->most ? raw : fee->most;
}
