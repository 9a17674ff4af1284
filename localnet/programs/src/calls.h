/* Calls of the token and the system program that several stand-ins make. */
#pragma once
#include "program.h"

static const u8 SYSTEM[32] = {0};

INLINE void write_u64(u8 *at, u64 value) {
    for (u32 byte = 0; byte < 8; byte++) at[byte] = (u8)(value >> (8 * byte));
}

/* Let the token program move tokens: Transfer. The mint is not looked at. */
APART u64 transfer(const Transfer *t) {
    u8 data[9] = {3};
    write_u64(data + 1, t->amount);
    Meta metas[3] = {{t->from->key, 1, 0}, {t->to->key, 1, 0}, {t->authority->key, 0, 1}};
    Account accounts[4] = {*t->from, *t->to, *t->authority, *t->program};
    Instruction call = {t->program->key, metas, 3, data, sizeof data};
    return sol_invoke_signed_c(&call, accounts, 4, t->signer, t->signer ? 1 : 0);
}

/* Let the token program make or destroy tokens: MintTo into an account, Burn out of one. */
typedef struct { const Account *account, *mint, *authority, *program; u64 amount; const Signer *signer; } Supply;

APART u64 change_supply(const Supply *s, u64 burns) {
    u8 data[9] = {burns ? 8 : 7};
    write_u64(data + 1, s->amount);
    const Account *first = burns ? s->account : s->mint, *second = burns ? s->mint : s->account;
    Meta metas[3] = {{first->key, 1, 0}, {second->key, 1, 0}, {s->authority->key, 0, 1}};
    Account accounts[4] = {*first, *second, *s->authority, *s->program};
    Instruction call = {s->program->key, metas, 3, data, sizeof data};
    return sol_invoke_signed_c(&call, accounts, 4, s->signer, s->signer ? 1 : 0);
}

/* Let the system program move lamports: Transfer; `program` of the order is the system program. */
APART u64 transfer_lamports(const Transfer *t) {
    u8 data[12] = {2};
    write_u64(data + 4, t->amount);
    Meta metas[2] = {{t->from->key, 1, 1}, {t->to->key, 1, 0}};
    Account accounts[3] = {*t->from, *t->to, *t->program};
    Instruction call = {t->program->key, metas, 2, data, sizeof data};
    return sol_invoke_signed_c(&call, accounts, 3, t->signer, t->signer ? 1 : 0);
}
