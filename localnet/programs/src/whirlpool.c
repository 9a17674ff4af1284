/* Stand-in for Orca Whirlpool: `swap_v2`, exact input, fixed fee, up to three tick arrays.
 *
 * Layouts, order of checks and error codes are facts about orca-so/whirlpools (its Apache-2.0 state of early 2025); its
 * text is not used. Rounding and overflow are those of this project's core.
 */
#include "program.h"
#include "ticks.h"
#include "token_2022.h"
#include "wide.h"

enum { PROGRAM_A, PROGRAM_B, MEMO_PROGRAM, AUTHORITY, POOL, MINT_A, MINT_B, USER_A, VAULT_A, USER_B, VAULT_B, ARRAYS,
       ORACLE = ARRAYS + 3, ACCOUNTS };

#define SWAP_V2 0x621ec91a0bed042bull
#define POOL_KIND 0x096380e10cd1953full
#define ARRAY_KIND 0xbb42076ebebd6145ull
#define DYNAMIC_KIND 0x38dac7e18ef6d811ull
#define POOL_LENGTH 653
#define ARRAY_LENGTH 9988
#define DYNAMIC_LEAST 148
#define ARRAY_TICKS 88
#define TICK_LENGTH 113
#define ARGUMENTS 43
#define FEE_UNIT 1000000

#define DIVIDE_BY_ZERO 6006
#define NUMBER_CAST 6007
#define NUMBER_DOWN_CAST 6008
#define PRICE_OUT_OF_BOUNDS 6011
#define LIQUIDITY_OVERFLOW 6014
#define LIQUIDITY_UNDERFLOW 6015
#define TOKEN_MAX_EXCEEDED 6017
#define TOKEN_MIN_SUBCEEDED 6018
#define INVALID_TIMESTAMP 6022
#define INVALID_ARRAY_SEQUENCE 6023
#define SHIFT_RIGHT_OVERFLOW 6030
#define MULTIPLICATION_OVERFLOW 6033
#define INVALID_LIMIT_DIRECTION 6034
#define ZERO_TRADABLE_AMOUNT 6035
#define AMOUNT_OUT_BELOW_MINIMUM 6036
#define ARRAY_SEQUENCE_INVALID_INDEX 6038
#define AMOUNT_CALC_OVERFLOW 6039
#define AMOUNT_REMAINING_OVERFLOW 6040
#define DIFFERENT_WHIRLPOOL 6056

#define P_CONFIG 8
#define P_BUMP 40
#define P_SPACING 41
#define P_FEE_TIER 43
#define P_FEE_RATE 45
#define P_PROTOCOL_RATE 47
#define P_LIQUIDITY 49
#define P_PRICE 65
#define P_TICK 81
#define P_PROTOCOL_OWED 85
#define P_MINT_A 101
#define P_VAULT_A 133
#define P_GROWTH_A 165
#define P_MINT_B 181
#define P_VAULT_B 213
#define P_GROWTH_B 245
#define P_REWARDS_UPDATED 261
#define P_REWARDS 269
#define REWARD_LENGTH 128
#define R_EMISSIONS 96
#define R_GROWTH 112

/* MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr */
static const u8 MEMO[32] = {5, 74, 83, 90, 153, 41, 33, 6, 77, 36, 232, 113, 96, 218, 56, 124,
                            124, 53, 181, 221, 188, 146, 187, 129, 228, 31, 168, 64, 65, 5, 68, 141};

extern u64 sol_try_find_program_address(const Seed *, u64, const u8 *, u8 *, u8 *);

typedef struct {
    u8 *data; /* 0 where the array does not exist: it has no ticks */
    u64 length, dynamic;
    i32 start;
} Array;

typedef struct {
    u64 a_to_b, fee_rate, protocol_rate;
    i32 spacing, span, tick;
    u64 remaining, out, protocol_fee;
    U128 price, limit, liquidity;
    U128 growth_given, growth_taken; /* fees per unit of liquidity; the first one moves */
    U128 rewards[3];
    u8 rewarded[3];
    Array arrays[3];
    u64 count, at;
} Run;

#include "whirlpool_step.h"

/* --- Accounts */

APART u64 check_accounts(const Input *in) {
    const Account *a = in->at;
    MUST(in->count >= ACCOUNTS, ANCHOR_NOT_ENOUGH_KEYS);
    for (u32 side = 0; side < 2; side++) {
        MUST(is_token_program(a[PROGRAM_A + side].key), ANCHOR_WRONG_PROGRAM);
        MUST(same(a[PROGRAM_A + side].key, a[MINT_A + side].owner), ANCHOR_CONSTRAINT_ADDRESS);
    }
    MUST(same(a[MEMO_PROGRAM].key, MEMO), ANCHOR_WRONG_PROGRAM);
    MUST(a[AUTHORITY].signer, ANCHOR_NOT_SIGNER);
    const u8 *pool = a[POOL].data;
    MUST(same(a[POOL].owner, in->program), ANCHOR_WRONG_OWNER);
    MUST(a[POOL].length == POOL_LENGTH && u64_at(pool) == POOL_KIND, ANCHOR_WRONG_DISCRIMINATOR);
    MUST(a[POOL].writable, ANCHOR_CONSTRAINT_MUT);
    for (u32 side = 0; side < 2; side++) {
        u32 apart = side * (P_MINT_B - P_MINT_A);
        const Account *mint = &a[MINT_A + side], *user = &a[USER_A + 2 * side], *vault = &a[VAULT_A + 2 * side];
        MUST(same(mint->key, pool + P_MINT_A + apart), ANCHOR_CONSTRAINT_ADDRESS);
        MUST(mint->length >= MINT_LENGTH, ANCHOR_NOT_DESERIALIZED);
        MUST(is_token_account(user) && is_token_account(vault), ANCHOR_WRONG_OWNER);
        MUST(user->writable && vault->writable, ANCHOR_CONSTRAINT_MUT);
        MUST(same(token_mint(user), mint->key), ANCHOR_CONSTRAINT_RAW);
        MUST(same(vault->key, pool + P_VAULT_A + apart), ANCHOR_CONSTRAINT_ADDRESS);
    }
    for (u32 array = 0; array < 4; array++) MUST(a[ARRAYS + array].writable, ANCHOR_CONSTRAINT_MUT);
    u8 oracle[32], bump;
    Seed seeds[2] = {{(const u8 *)"oracle", 6}, {a[POOL].key, 32}};
    MUST(!sol_try_find_program_address(seeds, 2, in->program, oracle, &bump), ANCHOR_CONSTRAINT_SEEDS);
    MUST(same(oracle, a[ORACLE].key), ANCHOR_CONSTRAINT_SEEDS);
    return 0;
}

/* The address of the array that starts at a tick. */
APART u64 array_address(const Input *in, i32 start, u8 *address) {
    u8 text[11], bump;
    u64 at = sizeof text;
    u32 left = (u32)(start < 0 ? -start : start);
    do {
        text[--at] = (u8)('0' + left % 10);
        left /= 10;
    } while (left);
    if (start < 0) text[--at] = '-';
    Seed seeds[3] = {{(const u8 *)"tick_array", 10}, {in->at[POOL].key, 32}, {text + at, sizeof text - at}};
    return sol_try_find_program_address(seeds, 3, in->program, address, &bump);
}

/* Find the arrays that the swap may pass, in its order: those at the addresses of the next three, whatever their order in
 * the instruction. One that does not exist yet is an array without ticks. */
APART u64 find_arrays(const Input *in, Run *r) {
    const Account *given = in->at + ARRAYS;
    for (u32 index = 0; index < 3; index++) {
        if (!given[index].length) continue;
        MUST(same(given[index].owner, in->program), ANCHOR_WRONG_OWNER);
        u64 length = given[index].length, kind = length >= 8 ? u64_at(given[index].data) : 0;
        MUST((kind == ARRAY_KIND && length == ARRAY_LENGTH) || (kind == DYNAMIC_KIND && length >= DYNAMIC_LEAST),
             ANCHOR_WRONG_DISCRIMINATOR);
        const u8 *whirlpool = given[index].data + (kind == DYNAMIC_KIND ? 12 : ARRAY_LENGTH - 32);
        MUST(same(whirlpool, in->at[POOL].key), DIFFERENT_WHIRLPOOL);
    }
    i32 spans = 8192, start = (i32)((u32)(r->tick + spans * r->span) / (u32)r->span - (u32)spans) * r->span;
    /* Moving up from the last place of an array the search begins in the next one. */
    if (!r->a_to_b && r->tick + r->spacing >= start + r->span) start += r->span;
    for (u32 number = 0; number < 3; number++) {
        if (start + r->span > MIN_TICK && start < MAX_TICK) {
            Array array = {0, 0, 0, start};
            u8 address[32];
            int found = 0;
            for (u32 index = 0; index < 3 && !found; index++)
                if (given[index].length && (i32)u32_at(given[index].data + 8) == start) {
                    array.data = given[index].data;
                    array.length = given[index].length;
                    array.dynamic = u64_at(array.data) == DYNAMIC_KIND;
                    found = 1;
                }
            if (!found) {
                MUST(!array_address(in, start, address), INVALID_ARRAY_SEQUENCE);
                for (u32 index = 0; index < 3; index++) found |= !given[index].length && same(given[index].key, address);
            }
            if (!found) break;
            r->arrays[r->count++] = array;
        }
        start += r->a_to_b ? -r->span : r->span;
    }
    MUST(r->count, INVALID_ARRAY_SEQUENCE);
    return 0;
}

/* --- The swap */

/* Bring the growths of rewards up to now. */
APART u64 update_rewards(Run *r, u8 *pool, u64 now) {
    u64 updated = u64_at(pool + P_REWARDS_UPDATED);
    MUST(now >= updated, INVALID_TIMESTAMP);
    for (u32 index = 0; index < 3; index++) {
        u8 *reward = pool + P_REWARDS + REWARD_LENGTH * index;
        r->rewarded[index] = (u64_at(reward) | u64_at(reward + 8) | u64_at(reward + 16) | u64_at(reward + 24)) != 0;
        if (!r->rewarded[index]) continue;
        U128 growth = u128_at(reward + R_GROWTH), emissions = u128_at(reward + R_EMISSIONS), elapsed = {now - updated, 0};
        if (elapsed.lo && !is_zero(r->liquidity) && !is_zero(emissions)) {
            U256 product;
            multiply_wide(&product, &emissions, &elapsed);
            /* What overflows counts as nothing. */
            if (!product.w[2] && !product.w[3])
                growth = plus(growth, divide_narrow(product.w[1], product.w[0], &r->liquidity));
            put_u128(reward + R_GROWTH, growth);
        }
        r->rewards[index] = growth;
    }
    put_u64(pool + P_REWARDS_UPDATED, now);
    return 0;
}

INLINE void flip(u8 *at, U128 global) { put_u128(at, minus(global, u128_at(at))); }

/* Pass an initialized tick: liquidity changes, and what grew outside of it is what grew on the other side. */
APART u64 cross(Run *r, u8 *tick) {
    U128 net = u128_at(tick);
    int negative = net.hi >> 63, adds = negative == (int)r->a_to_b;
    if (negative) net = minus((U128){0, 0}, net);
    U128 liquidity = adds ? plus(r->liquidity, net) : minus(r->liquidity, net);
    MUST(!adds || !less(liquidity, net), LIQUIDITY_OVERFLOW);
    MUST(adds || !less(r->liquidity, net), LIQUIDITY_UNDERFLOW);
    r->liquidity = liquidity;
    flip(tick + 32, r->a_to_b ? r->growth_given : r->growth_taken);
    flip(tick + 48, r->a_to_b ? r->growth_taken : r->growth_given);
    for (u32 index = 0; index < 3; index++)
        if (r->rewarded[index]) flip(tick + 64 + 16 * index, r->rewards[index]);
    return 0;
}

INLINE u64 count_bits(u64 bits) {
    bits -= (bits >> 1) & 0x5555555555555555ull;
    bits = (bits & 0x3333333333333333ull) + ((bits >> 2) & 0x3333333333333333ull);
    return (((bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0full) * 0x0101010101010101ull) >> 56;
}

/* The data of an initialized tick; 0 where it is none. */
APART u8 *tick_at(const Array *array, u64 place) {
    u8 *at = array->data + 12 + TICK_LENGTH * place;
    if (array->dynamic) {
        /* Only initialized ticks have data here; a bitmap tells which they are. */
        U128 bitmap = u128_at(array->data + 44);
        u64 bits = place < 64 ? bitmap.lo : bitmap.hi, bit = 1ull << (place & 63);
        if (!(bits & bit)) return 0;
        u64 before = count_bits(bits & (bit - 1)) + (place < 64 ? 0 : count_bits(bitmap.lo));
        u64 offset = 60 + place + before * (TICK_LENGTH - 1);
        if (offset + TICK_LENGTH > array->length) return 0;
        at = array->data + offset;
    }
    return *at ? at + 1 : 0;
}

/* Find the next initialized tick, or where the search ends. */
APART u8 *next_tick(Run *r, i32 *index) {
    i32 tick = r->tick;
    for (;;) {
        const Array *array = &r->arrays[r->at];
        i32 place = tick < array->start ? -1 : (i32)((u32)(tick - array->start) / (u32)r->spacing);
        i32 step = r->a_to_b ? -1 : 1;
        if (!r->a_to_b) place++;
        for (; array->data && place >= 0 && place < ARRAY_TICKS; place += step) {
            u8 *found = tick_at(array, (u64)place);
            if (found) {
                *index = array->start + place * r->spacing;
                return found;
            }
        }
        i32 end = array->start + r->span - 1;
        *index = r->a_to_b ? array->start : end;
        if (r->a_to_b && array->start <= MIN_TICK) *index = MIN_TICK;
        else if (!r->a_to_b && end >= MAX_TICK) *index = MAX_TICK;
        else if (r->at + 1 < r->count) {
            r->at++;
            tick = r->a_to_b ? array->start - 1 : end;
            continue;
        }
        return 0;
    }
}

INLINE void add_fee(Run *r, u64 fee, u64 share) {
    r->protocol_fee += share;
    if (is_zero(r->liquidity)) return;
    r->growth_given = plus(r->growth_given, divide_narrow(fee - share, 0, &r->liquidity));
}

APART u64 walk(Run *r) {
    while (r->remaining && !equal(r->price, r->limit)) {
        i32 index;
        Step s;
        u64 share;
        MUST(r->at < r->count, ARRAY_SEQUENCE_INVALID_INDEX);
        u8 *tick = next_tick(r, &index);
        U128 edge, target;
        price_of_tick(index, &edge);
        target = edge;
        if (r->a_to_b ? less(edge, r->limit) : less(r->limit, edge)) target = r->limit;
        TRY(take_step(&s, r, &target));
        MUST(s.in + s.fee >= s.fee && s.in + s.fee <= r->remaining, AMOUNT_REMAINING_OVERFLOW);
        MUST(r->out + s.out >= s.out, AMOUNT_CALC_OVERFLOW);
        r->remaining -= s.in + s.fee;
        r->out += s.out;
        TRY(scale(&share, s.fee, r->protocol_rate, 10000, 0));
        MUST(share <= s.fee, NUMBER_CAST);
        add_fee(r, s.fee, share);
        if (equal(s.price, edge)) {
            if (tick) TRY(cross(r, tick));
            i32 start = r->arrays[r->at].start;
            if (r->a_to_b ? index < start + r->spacing : index >= start + (ARRAY_TICKS - 1) * r->spacing) r->at++;
            r->tick = index - (i32)r->a_to_b;
        } else if (!equal(s.price, r->price)) {
            r->tick = tick_of_price(&s.price);
        }
        r->price = s.price;
    }
    return 0;
}

APART u64 swap(const Input *in) {
    const Account *a = in->at;
    TransferFee fees[2];
    Clock clock;
    Run run, *r = &run;
    MUST(in->length >= ARGUMENTS && in->data[40] <= 1 && in->data[41] <= 1, ANCHOR_BAD_ARGUMENTS);
    u64 amount = u64_at(in->data + 8), least = u64_at(in->data + 16);
    MUST(in->data[40] == 1 && !in->data[42], NOT_BUILT);
    TRY(check_accounts(in));
    u8 *pool = a[POOL].data;
    u64 a_to_b = r->a_to_b = in->data[41], given = !a_to_b, taken = a_to_b;
    TRY(sol_get_clock_sysvar(&clock));
    r->spacing = u16_at(pool + P_SPACING);
    r->span = r->spacing * ARRAY_TICKS;
    MUST(r->spacing && u16_at(pool + P_FEE_TIER) == r->spacing, NOT_BUILT);
    r->fee_rate = u16_at(pool + P_FEE_RATE);
    r->protocol_rate = u16_at(pool + P_PROTOCOL_RATE);
    r->tick = (i32)u32_at(pool + P_TICK);
    r->price = u128_at(pool + P_PRICE);
    r->liquidity = u128_at(pool + P_LIQUIDITY);
    r->limit = u128_at(in->data + 24);
    u64 growth_at = a_to_b ? P_GROWTH_A : P_GROWTH_B;
    r->growth_given = u128_at(pool + growth_at);
    r->growth_taken = u128_at(pool + (a_to_b ? P_GROWTH_B : P_GROWTH_A));
    r->out = r->protocol_fee = r->count = r->at = 0;
    if (is_zero(r->limit)) r->limit = a_to_b ? MIN_PRICE : MAX_PRICE;
    TRY(transfer_fee(&a[MINT_A], clock.epoch, &fees[0]));
    TRY(transfer_fee(&a[MINT_B], clock.epoch, &fees[1]));
    TRY(find_arrays(in, r));
    MUST(!less(r->limit, MIN_PRICE) && !less(MAX_PRICE, r->limit), PRICE_OUT_OF_BOUNDS);
    MUST(a_to_b ? !less(r->price, r->limit) : !less(r->limit, r->price), INVALID_LIMIT_DIRECTION);
    u64 whole = r->remaining = amount - fee_of(&fees[given], amount);
    MUST(whole, ZERO_TRADABLE_AMOUNT);
    TRY(update_rewards(r, pool, clock.unix_time > 0 ? (u64)clock.unix_time : 0));
    TRY(walk(r));
    /* A swap that ended at the last price took a part; what to send so that it arrives is not built where a fee is due. */
    MUST(!r->remaining || !fees[given].bps, NOT_BUILT);
    u64 sent = r->remaining ? whole - r->remaining : amount;
    MUST(r->out - fee_of(&fees[taken], r->out) >= least, AMOUNT_OUT_BELOW_MINIMUM);
    put_u128(pool + P_LIQUIDITY, r->liquidity);
    put_u128(pool + P_PRICE, r->price);
    *(u32 *)(pool + P_TICK) = (u32)r->tick;
    put_u128(pool + growth_at, r->growth_given);
    u8 *owed = pool + P_PROTOCOL_OWED + 8 * given;
    MUST(u64_at(owed) + r->protocol_fee >= r->protocol_fee, ARITHMETIC_OVERFLOW);
    put_u64(owed, u64_at(owed) + r->protocol_fee);
    const Account *users[2] = {&a[USER_A], &a[USER_B]}, *vaults[2] = {&a[VAULT_A], &a[VAULT_B]};
    Transfer in_ = {users[given], vaults[given], &a[MINT_A + given], &a[AUTHORITY], &a[PROGRAM_A + given], sent, 0};
    TRY(transfer_checked(&in_));
    Seed seeds[6] = {{(const u8 *)"whirlpool", 9}, {pool + P_CONFIG, 32}, {pool + P_MINT_A, 32}, {pool + P_MINT_B, 32},
                     {pool + P_FEE_TIER, 2}, {pool + P_BUMP, 1}};
    Signer signer = {seeds, 6};
    Transfer out_ = {vaults[taken], users[taken], &a[MINT_A + taken], &a[POOL], &a[PROGRAM_A + taken], r->out, &signer};
    return transfer_checked(&out_);
}

u64 entrypoint(u8 *raw) {
    Input in;
    read_input(&in, raw);
    if (in.length < 8 || u64_at(in.data) != SWAP_V2) {
        SAY("only swap_v2 is built");
        return NO_SUCH_INSTRUCTION;
    }
    return swap(&in);
}
