/* Stand-in for Raydium CPMM: `swap_base_input`, constant product with trade, protocol, fund and creator fees.
 *
 * Layouts, checks and formulas after raydium-io/raydium-cp-swap (Apache-2.0); its text is not used. The observation
 * account is checked and not written.
 */
#include "program.h"
#include "token_2022.h"

enum { PAYER, AUTHORITY, CONFIG, POOL, USER_IN, USER_OUT, VAULT_IN, VAULT_OUT, PROGRAM_IN, PROGRAM_OUT, MINT_IN, MINT_OUT,
       OBSERVATION, ACCOUNTS };

#define SWAP_BASE_INPUT 0xde331ec4da5abe8full
#define POOL_KIND 0x46dec3d7f5e3edf7ull
#define CONFIG_KIND 0x6f2bcbcb6821f4daull
#define POOL_LENGTH 637
#define CONFIG_LENGTH 236
#define UNIT 1000000

#define NOT_APPROVED 6000
#define EXCEEDED_SLIPPAGE 6005
#define ZERO_TRADING_TOKENS 6006

/* Offsets in the pool; of pairs, the distance from side 0 to side 1 follows. */
#define P_CONFIG 8
#define P_VAULTS 72
#define P_OBSERVATION 296
#define P_AUTH_BUMP 328
#define P_STATUS 329
#define P_PROTOCOL_FEES 341
#define P_FUND_FEES 357
#define P_OPEN_TIME 373
#define P_RECENT_EPOCH 381
#define P_CREATOR_FEE_ON 389
#define P_CREATOR_ENABLED 390
#define P_CREATOR_FEES 397
#define C_TRADE_FEE 12
#define C_PROTOCOL_FEE 20
#define C_FUND_FEE 28
#define C_CREATOR_FEE 108

INLINE u64 check_accounts(const Input *in, u64 *side, u8 authority[32]) {
    const Account *a = in->at;
    MUST(in->count >= ACCOUNTS, ANCHOR_NOT_ENOUGH_KEYS);
    MUST(a[PAYER].signer, ANCHOR_NOT_SIGNER);
    MUST(same(a[POOL].owner, in->program) && same(a[CONFIG].owner, in->program), ANCHOR_WRONG_OWNER);
    MUST(a[POOL].length == POOL_LENGTH && u64_at(a[POOL].data) == POOL_KIND, ANCHOR_WRONG_DISCRIMINATOR);
    MUST(a[CONFIG].length == CONFIG_LENGTH && u64_at(a[CONFIG].data) == CONFIG_KIND, ANCHOR_WRONG_DISCRIMINATOR);
    const u8 *pool = a[POOL].data;
    MUST(same(a[CONFIG].key, pool + P_CONFIG), ANCHOR_CONSTRAINT_ADDRESS);
    MUST(a[POOL].writable && a[USER_IN].writable && a[USER_OUT].writable && a[VAULT_IN].writable &&
         a[VAULT_OUT].writable && a[OBSERVATION].writable, ANCHOR_CONSTRAINT_MUT);
    MUST(same(a[OBSERVATION].key, pool + P_OBSERVATION), ANCHOR_CONSTRAINT_ADDRESS);
    MUST(is_token_account(&a[USER_IN]) && is_token_account(&a[USER_OUT]) && is_token_account(&a[VAULT_IN]) &&
         is_token_account(&a[VAULT_OUT]), ANCHOR_WRONG_OWNER);
    *side = same(a[VAULT_IN].key, pool + P_VAULTS) ? 0 : 1;
    MUST(same(a[VAULT_IN].key, pool + P_VAULTS + 32 * *side), ANCHOR_CONSTRAINT_RAW);
    MUST(same(a[VAULT_OUT].key, pool + P_VAULTS + 32 * !*side), ANCHOR_REQUIRE_KEYS_EQ);
    MUST(is_token_program(a[PROGRAM_IN].key) && is_token_program(a[PROGRAM_OUT].key), ANCHOR_WRONG_PROGRAM);
    MUST(same(a[MINT_IN].key, token_mint(&a[VAULT_IN])), ANCHOR_CONSTRAINT_ADDRESS);
    MUST(same(a[MINT_OUT].key, token_mint(&a[VAULT_OUT])), ANCHOR_CONSTRAINT_ADDRESS);
    MUST(is_token_program(a[MINT_IN].owner) && is_token_program(a[MINT_OUT].owner), ANCHOR_WRONG_OWNER);
    MUST(a[MINT_IN].length >= MINT_LENGTH && a[MINT_OUT].length >= MINT_LENGTH, ANCHOR_NOT_DESERIALIZED);
    Seed seeds[2] = {{(const u8 *)"vault_and_lp_mint_auth_seed", 27}, {pool + P_AUTH_BUMP, 1}};
    MUST(!sol_create_program_address(seeds, 2, in->program, authority), ANCHOR_CONSTRAINT_SEEDS);
    MUST(same(authority, a[AUTHORITY].key), ANCHOR_CONSTRAINT_SEEDS);
    return 0;
}

typedef struct { u64 entered, left, received, protocol, fund, creator, creator_on_input; } Moved;

/* Tokens of a side that belong to those who gave liquidity. */
APART u64 reserve(const Account *vault, const u8 *pool, u64 side, u64 *amount) {
    u64 held = token_amount(vault), at = 8 * side;
    u64 parts[3] = {u64_at(pool + P_PROTOCOL_FEES + at), u64_at(pool + P_FUND_FEES + at), u64_at(pool + P_CREATOR_FEES + at)};
    for (u32 part = 0; part < 3; part++) {
        MUST(parts[part] <= held, ARITHMETIC_OVERFLOW);
        held -= parts[part];
    }
    *amount = held;
    return 0;
}

APART u64 compute(const Input *in, u64 side, u64 epoch, u64 amount, Moved *m) {
    const Account *a = in->at;
    const u8 *pool = a[POOL].data, *config = a[CONFIG].data;
    TransferFee fee_in, fee_out;
    TRY(transfer_fee(&a[MINT_IN], epoch, &fee_in));
    TRY(transfer_fee(&a[MINT_OUT], epoch, &fee_out));
    m->entered = amount - fee_of(&fee_in, amount);
    MUST(m->entered, ANCHOR_REQUIRE_GT);
    u64 given, taken, total, swapped, trade_fee;
    TRY(reserve(&a[VAULT_IN], pool, side, &given));
    TRY(reserve(&a[VAULT_OUT], pool, !side, &taken));
    u64 creator_rate = pool[P_CREATOR_ENABLED] ? u64_at(config + C_CREATOR_FEE) : 0;
    u64 trade_rate = u64_at(config + C_TRADE_FEE), on = pool[P_CREATOR_FEE_ON];
    MUST(on <= 2 && trade_rate < UNIT && creator_rate < UNIT - trade_rate, ZERO_TRADING_TOKENS);
    m->creator_on_input = on == 0 || (on == 1) == (side == 0);
    u64 input_rate = trade_rate + (m->creator_on_input ? creator_rate : 0);
    MUST(given && taken && (input_rate || !m->creator_on_input), ZERO_TRADING_TOKENS);
    TRY(scale(&total, m->entered, input_rate, UNIT, 1));
    u64 net = m->entered - total;
    MUST(given + net >= given, ARITHMETIC_OVERFLOW);
    TRY(scale(&swapped, taken, net, given + net, 0));
    if (m->creator_on_input) {
        TRY(scale(&m->creator, total, creator_rate, input_rate, 0));
        trade_fee = total - m->creator;
        m->left = swapped;
    } else {
        TRY(scale(&m->creator, swapped, creator_rate, UNIT, 1));
        trade_fee = total;
        m->left = swapped - m->creator;
    }
    TRY(scale(&m->protocol, trade_fee, u64_at(config + C_PROTOCOL_FEE), UNIT, 0));
    TRY(scale(&m->fund, trade_fee, u64_at(config + C_FUND_FEE), UNIT, 0));
    m->received = m->left - fee_of(&fee_out, m->left);
    MUST(m->received, ANCHOR_REQUIRE_GT);
    return 0;
}

APART u64 add(u8 *at, u64 amount) {
    u64 sum = u64_at(at) + amount;
    MUST(sum >= amount, ARITHMETIC_OVERFLOW);
    put_u64(at, sum);
    return 0;
}

APART u64 swap(const Input *in) {
    const Account *a = in->at;
    u64 side;
    u8 authority[32];
    Clock clock;
    Moved m;
    MUST(in->length >= 24, ANCHOR_BAD_ARGUMENTS);
    u64 amount = u64_at(in->data + 8), least = u64_at(in->data + 16);
    TRY(check_accounts(in, &side, authority));
    u8 *pool = a[POOL].data;
    TRY(sol_get_clock_sysvar(&clock));
    MUST(!(pool[P_STATUS] & 4) && (u64)clock.unix_time >= u64_at(pool + P_OPEN_TIME), NOT_APPROVED);
    TRY(compute(in, side, clock.epoch, amount, &m));
    MUST(m.received >= least, EXCEEDED_SLIPPAGE);
    TRY(add(pool + P_PROTOCOL_FEES + 8 * side, m.protocol));
    TRY(add(pool + P_FUND_FEES + 8 * side, m.fund));
    TRY(add(pool + P_CREATOR_FEES + 8 * (m.creator_on_input ? side : !side), m.creator));
    put_u64(pool + P_RECENT_EPOCH, clock.epoch);
    Transfer given = {&a[USER_IN], &a[VAULT_IN], &a[MINT_IN], &a[PAYER], &a[PROGRAM_IN], amount, 0};
    TRY(transfer_checked(&given));
    Seed seeds[2] = {{(const u8 *)"vault_and_lp_mint_auth_seed", 27}, {pool + P_AUTH_BUMP, 1}};
    Signer signer = {seeds, 2};
    Transfer taken = {&a[VAULT_OUT], &a[USER_OUT], &a[MINT_OUT], &a[AUTHORITY], &a[PROGRAM_OUT], m.left, &signer};
    return transfer_checked(&taken);
}

u64 entrypoint(u8 *raw) {
    Input in;
    read_input(&in, raw);
    if (in.length < 8 || u64_at(in.data) != SWAP_BASE_INPUT) {
        SAY("only swap_base_input is built");
        return NO_SUCH_INSTRUCTION;
    }
    return swap(&in);
}
