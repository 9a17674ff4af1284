/* Stand-in for Marinade: `deposit` and `liquid_unstake`.
 *
 * Layouts, checks and formulas after marinade-finance/liquid-staking-program (Apache-2.0); its text is not used. A
 * deposit that is worth no mSOL is refused; the real program would keep it.
 */
#include "calls.h"
#include "program.h"

#define DEPOSIT 0xb6f2e15289c623f2ull
#define LIQUID_UNSTAKE 0x100ce3bff0771e1eull
#define STATE_KIND 0xb1b64b685e6b92d8ull
#define STATE_LEAST 609
#define WHOLE 10000

#define ANCHOR_CONSTRAINT_OWNER 2004
#define ANCHOR_CONSTRAINT_TOKEN_MINT 2014
#define ANCHOR_NOT_SYSTEM_OWNED 3011
#define INSUFFICIENT_FUNDS BUILTIN(6)
#define CALCULATION_FAILURE 6013
#define INSUFFICIENT_LIQUIDITY 6026
#define STAKING_IS_CAPPED 6034
#define WITHDRAW_TOO_LOW 6038
#define DEPOSIT_TOO_LOW 6039
#define NOT_ENOUGH_USER_FUNDS 6040
#define WRONG_TOKEN_OWNER 6041
#define UNREGISTERED_MINTED 6071
#define PAUSED 6077

#define S_MINT 8
#define S_TREASURY 104
#define S_RESERVE_BUMP 136
#define S_MINT_BUMP 137
#define S_LEG_RENT 138
#define S_COOLING_DOWN 226
#define S_ACTIVE 376
#define S_SOL_LEG_BUMP 418
#define S_MSOL_AUTHORITY_BUMP 419
#define S_MSOL_LEG 420
#define S_TARGET 452
#define S_MAX_FEE 460
#define S_MIN_FEE 464
#define S_TREASURY_CUT 468
#define S_RESERVE 496
#define S_SUPPLY 504
#define S_TICKETS 528
#define S_MIN_DEPOSIT 544
#define S_MIN_WITHDRAW 552
#define S_STAKING_CAP 560
#define S_EMERGENCY_COOLING 568
#define S_PAUSED 608
#define MINT_SUPPLY 36

#define SOL_LEG "liq_sol"
#define MSOL_AUTHORITY "liq_st_sol_authority"
#define RESERVE "reserve"
#define MINTER "st_mint"
#define SEED(text) {(const u8 *)(text), sizeof(text) - 1}
#define DERIVED(account, text, bump_at) is_derived(in, account, (const u8 *)(text), (sizeof(text) - 1) << 32 | (bump_at))

/* Lamports under control, and those of them that stand behind all mSOL. */
typedef struct { u64 controlled, staked, supply; } Worth;

APART u64 read_worth(const u8 *state, Worth *w) {
    u64 parts[4] = {u64_at(state + S_RESERVE), u64_at(state + S_COOLING_DOWN), u64_at(state + S_EMERGENCY_COOLING),
                    u64_at(state + S_ACTIVE)};
    w->controlled = 0;
    for (u32 part = 0; part < 4; part++) {
        w->controlled += parts[part];
        MUST(w->controlled >= parts[part], CALCULATION_FAILURE);
    }
    u64 tickets = u64_at(state + S_TICKETS);
    w->staked = w->controlled > tickets ? w->controlled - tickets : 0;
    w->supply = u64_at(state + S_SUPPLY);
    return 0;
}

APART u64 msol_of(const Worth *w, u64 lamports, u64 *msol) {
    *msol = lamports;
    if (w->supply && w->staked) MUST(!scale(msol, lamports, w->supply, w->staked, 0), CALCULATION_FAILURE);
    return 0;
}

APART u64 lamports_of(const Worth *w, u64 msol, u64 *lamports) {
    *lamports = msol;
    if (w->supply) MUST(!scale(lamports, msol, w->staked, w->supply, 0), CALCULATION_FAILURE);
    return 0;
}

INLINE int is_classic(const Account *account) {
    return same(account->owner, TOKEN) && account->length == TOKEN_ACCOUNT_LENGTH && account->data[108];
}

/* Whether an account is where the program derives it: [state, name, bump]. `where` is the name's length in its upper half
 * and the bump's offset in its lower. */
APART int is_derived(const Input *in, const Account *account, const u8 *name, u64 where) {
    u8 derived[32];
    Seed seeds[3] = {{in->at->key, 32}, {name, where >> 32}, {in->at->data + (u32)where, 1}};
    return !sol_create_program_address(seeds, 3, in->program, derived) && same(derived, account->key);
}

/* What both instructions check: state, mint, both legs of the liquidity pool, programs. */
APART u64 check_common(const Input *in, u64 programs_at) {
    const Account *a = in->at, *state = a, *mint = a + 1, *sol_leg = a + 2, *msol_leg = a + 3;
    MUST(same(state->owner, in->program), ANCHOR_WRONG_OWNER);
    MUST(state->length >= STATE_LEAST && u64_at(state->data) == STATE_KIND, ANCHOR_WRONG_DISCRIMINATOR);
    MUST(state->writable && mint->writable && sol_leg->writable && msol_leg->writable, ANCHOR_CONSTRAINT_MUT);
    MUST(same(mint->key, state->data + S_MINT), ANCHOR_CONSTRAINT_HAS_ONE);
    MUST(same(mint->owner, TOKEN) && mint->length == MINT_LENGTH, ANCHOR_WRONG_OWNER);
    MUST(same(sol_leg->owner, SYSTEM), ANCHOR_NOT_SYSTEM_OWNED);
    MUST(DERIVED(sol_leg, SOL_LEG, S_SOL_LEG_BUMP), ANCHOR_CONSTRAINT_SEEDS);
    MUST(is_classic(msol_leg), ANCHOR_WRONG_OWNER);
    MUST(same(msol_leg->key, state->data + S_MSOL_LEG), ANCHOR_CONSTRAINT_ADDRESS);
    MUST(same(a[programs_at].key, SYSTEM) && same(a[programs_at + 1].key, TOKEN), ANCHOR_WRONG_PROGRAM);
    MUST(!state->data[S_PAUSED], PAUSED);
    return 0;
}

APART u64 deposit(const Input *in, u64 lamports) {
    const Account *a = in->at;
    MUST(in->count >= 11, ANCHOR_NOT_ENOUGH_KEYS);
    TRY(check_common(in, 9));
    const Account *mint = a + 1, *sol_leg = a + 2, *msol_leg = a + 3, *leg_authority = a + 4, *reserve = a + 5, *user = a + 6,
                  *destination = a + 7, *minter = a + 8, *system = a + 9, *tokens = a + 10;
    u8 *state = a->data;
    MUST(DERIVED(leg_authority, MSOL_AUTHORITY, S_MSOL_AUTHORITY_BUMP), ANCHOR_CONSTRAINT_SEEDS);
    MUST(same(reserve->owner, SYSTEM), ANCHOR_NOT_SYSTEM_OWNED);
    MUST(DERIVED(reserve, RESERVE, S_RESERVE_BUMP), ANCHOR_CONSTRAINT_SEEDS);
    MUST(DERIVED(minter, MINTER, S_MINT_BUMP), ANCHOR_CONSTRAINT_SEEDS);
    MUST(user->signer, ANCHOR_NOT_SIGNER);
    MUST(user->writable && reserve->writable && destination->writable, ANCHOR_CONSTRAINT_MUT);
    MUST(same(user->owner, SYSTEM), ANCHOR_CONSTRAINT_OWNER);
    MUST(is_classic(destination), ANCHOR_WRONG_OWNER);
    MUST(same(token_mint(destination), mint->key), ANCHOR_CONSTRAINT_TOKEN_MINT);
    Worth w;
    TRY(read_worth(state, &w));
    MUST(lamports >= u64_at(state + S_MIN_DEPOSIT), DEPOSIT_TOO_LOW);
    MUST(*user->lamports >= lamports, INSUFFICIENT_FUNDS);
    MUST(u64_at(mint->data + MINT_SUPPLY) <= w.supply, UNREGISTERED_MINTED);
    /* The liquidity pool sells its mSOL first, without a fee; the rest is minted. */
    u64 msol, paid = 0, held = token_amount(msol_leg);
    TRY(msol_of(&w, lamports, &msol));
    MUST(msol, DEPOSIT_TOO_LOW);
    u64 swapped = msol < held ? msol : held, minted = msol - swapped;
    if (swapped == msol) paid = lamports;
    else if (swapped) TRY(lamports_of(&w, swapped, &paid));
    MUST(paid <= lamports, CALCULATION_FAILURE);
    u64 staked = lamports - paid, controlled = w.controlled + staked;
    MUST(!staked || (controlled >= staked && controlled <= u64_at(state + S_STAKING_CAP)), STAKING_IS_CAPPED);
    MUST(w.supply + minted >= minted, CALCULATION_FAILURE);
    if (swapped) {
        Seed seeds[3] = {{a->key, 32}, SEED(MSOL_AUTHORITY), {state + S_MSOL_AUTHORITY_BUMP, 1}};
        Signer signer = {seeds, 3};
        Transfer sold = {msol_leg, destination, 0, leg_authority, tokens, swapped, &signer};
        TRY(transfer(&sold));
        Transfer price = {user, sol_leg, 0, user, system, paid, 0};
        TRY(transfer_lamports(&price));
    }
    if (staked) {
        Transfer put_in = {user, reserve, 0, user, system, staked, 0};
        TRY(transfer_lamports(&put_in));
        put_u64(state + S_RESERVE, u64_at(state + S_RESERVE) + staked);
    }
    if (minted) {
        Seed seeds[3] = {{a->key, 32}, SEED(MINTER), {state + S_MINT_BUMP, 1}};
        Signer signer = {seeds, 3};
        Supply made = {destination, mint, minter, tokens, minted, &signer};
        TRY(change_supply(&made, 0));
        put_u64(state + S_SUPPLY, w.supply + minted);
    }
    return 0;
}

/* Basis points of an unstake that is worth so much: more, the less it leaves of the SOL leg. */
APART u64 unstake_fee(const u8 *state, u64 available, u64 worth, u64 *bps) {
    u64 most = u32_at(state + S_MAX_FEE), least = u32_at(state + S_MIN_FEE), target = u64_at(state + S_TARGET);
    MUST(least <= most && most <= WHOLE, CALCULATION_FAILURE);
    *bps = most;
    if (worth >= available) return 0;
    u64 left = available - worth, discount;
    if (left >= target) {
        *bps = least;
        return 0;
    }
    MUST(!scale(&discount, most - least, left, target, 0), CALCULATION_FAILURE);
    *bps = most - discount;
    return 0;
}

INLINE u64 check_source(const Account *source, const Account *authority, u64 amount) {
    /* A delegate stands at 76, how much it may move at 121. */
    if (u32_at(source->data + 72) && same(source->data + 76, authority->key)) {
        MUST(u64_at(source->data + 121) >= amount, NOT_ENOUGH_USER_FUNDS);
    } else {
        MUST(same(token_owner(source), authority->key), WRONG_TOKEN_OWNER);
    }
    MUST(token_amount(source) >= amount, NOT_ENOUGH_USER_FUNDS);
    return 0;
}

APART u64 unstake(const Input *in, u64 msol) {
    const Account *a = in->at;
    MUST(in->count >= 10, ANCHOR_NOT_ENOUGH_KEYS);
    TRY(check_common(in, 8));
    const Account *mint = a + 1, *sol_leg = a + 2, *msol_leg = a + 3, *treasury = a + 4, *source = a + 5, *authority = a + 6,
                  *user = a + 7, *system = a + 8, *tokens = a + 9;
    u8 *state = a->data;
    MUST(same(treasury->key, state + S_TREASURY), ANCHOR_CONSTRAINT_HAS_ONE);
    MUST(treasury->writable && source->writable && user->writable, ANCHOR_CONSTRAINT_MUT);
    MUST(is_classic(source), ANCHOR_WRONG_OWNER);
    MUST(same(token_mint(source), mint->key), ANCHOR_CONSTRAINT_TOKEN_MINT);
    MUST(authority->signer, ANCHOR_NOT_SIGNER);
    MUST(same(user->owner, SYSTEM), ANCHOR_NOT_SYSTEM_OWNED);
    TRY(check_source(source, authority, msol));
    Worth w;
    u64 rent = u64_at(state + S_LEG_RENT), available = *sol_leg->lamports > rent ? *sol_leg->lamports - rent : 0;
    u64 worth, bps, fee, lamports, cut = 0;
    TRY(read_worth(state, &w));
    TRY(lamports_of(&w, msol, &worth));
    TRY(unstake_fee(state, available, worth, &bps));
    TRY(scale(&fee, msol, bps, WHOLE, 0));
    TRY(lamports_of(&w, msol - fee, &lamports));
    MUST(lamports <= available, INSUFFICIENT_LIQUIDITY);
    MUST(lamports && lamports >= u64_at(state + S_MIN_WITHDRAW), WITHDRAW_TOO_LOW);
    if (is_classic(treasury) && treasury->data[108] == 1 && same(token_mint(treasury), mint->key))
        TRY(scale(&cut, fee, u32_at(state + S_TREASURY_CUT), WHOLE, 0));
    MUST(cut <= fee, CALCULATION_FAILURE);
    Seed seeds[3] = {{a->key, 32}, SEED(SOL_LEG), {state + S_SOL_LEG_BUMP, 1}};
    Signer signer = {seeds, 3};
    Transfer paid = {sol_leg, user, 0, sol_leg, system, lamports, &signer};
    TRY(transfer_lamports(&paid));
    Transfer given = {source, msol_leg, 0, authority, tokens, msol - cut, 0};
    TRY(transfer(&given));
    Transfer taxed = {source, treasury, 0, authority, tokens, cut, 0};
    return cut ? transfer(&taxed) : 0;
}

u64 entrypoint(u8 *raw) {
    Input in;
    read_input(&in, raw);
    u64 kind = in.length < 8 ? 0 : u64_at(in.data);
    if (kind != DEPOSIT && kind != LIQUID_UNSTAKE) {
        SAY("only deposit and liquid_unstake are built");
        return NO_SUCH_INSTRUCTION;
    }
    MUST(in.length >= 16, ANCHOR_BAD_ARGUMENTS);
    u64 amount = u64_at(in.data + 8);
    return kind == DEPOSIT ? deposit(&in, amount) : unstake(&in, amount);
}
