/* Stand-in for Raydium AMM v4: `SwapBaseInV2` and `SwapBaseIn`, constant product without an order book.
 *
 * Layouts, checks and formulas after raydium-io/raydium-amm (Apache-2.0); its text is not used. The pool's own account
 * is not written: its sums of what was ever swapped are nothing that a quote reads.
 */
#include "calls.h"
#include "program.h"

#define SWAP_BASE_IN 9
#define SWAP_BASE_IN_V2 16
#define ACCOUNTS_V2 8
#define ACCOUNTS_LEAST 17
#define ACCOUNTS_MOST 18
#define POOL_LENGTH 752

#define INVALID_PROGRAM_ADDRESS 1
#define EXPECTED_ACCOUNT 3
#define INVALID_COIN_VAULT 4
#define INVALID_PC_VAULT 5
#define NEED_WRITABLE 14
#define INVALID_SIGN_ACCOUNT 21
#define INVALID_STATUS 22
#define WRONG_ACCOUNTS_NUMBER 24
#define INVALID_AMM_ACCOUNT_OWNER 27
#define INVALID_INPUT 29
#define EXCEEDED_SLIPPAGE 30
#define CHECKED_SUB_OVERFLOW 32
#define CHECKED_ADD_OVERFLOW 33
#define CHECKED_EMPTY_FUNDS 36
#define INVALID_SPL_TOKEN_PROGRAM 38
#define INSUFFICIENT_FUNDS 40
#define INVALID_USER_TOKEN 42

#define P_STATUS 0
#define P_NONCE 8
#define P_FEE_NUMERATOR 176
#define P_FEE_DENOMINATOR 184
#define P_OWED_COIN 192
#define P_OWED_PC 200
#define P_OPEN_TIME 224
#define P_COIN_VAULT 336
#define P_PC_VAULT 368
#define SWAP_ONLY 6
#define WAITING_TRADE 7

typedef struct { const Account *tokens, *pool, *authority, *coin, *pc, *source, *destination, *owner; } Named;

/* Give the accounts their names; those of an order book, which the older instruction carries, are passed over. */
INLINE u64 name_accounts(const Input *in, Named *n) {
    const Account *a = in->at;
    u64 vaults = 3;
    if (in->data[0] == SWAP_BASE_IN) {
        MUST(in->count == ACCOUNTS_LEAST || in->count == ACCOUNTS_MOST, WRONG_ACCOUNTS_NUMBER);
        vaults = in->count == ACCOUNTS_MOST ? 5 : 4;
    } else {
        MUST(in->count >= ACCOUNTS_V2, NOT_ENOUGH_ACCOUNTS);
    }
    const Account *user = in->data[0] == SWAP_BASE_IN ? a + in->count - 3 : a + 5;
    *n = (Named){a, a + 1, a + 2, a + vaults, a + vaults + 1, user, user + 1, user + 2};
    return 0;
}

INLINE int is_classic(const Account *account) {
    return same(account->owner, TOKEN) && account->length == TOKEN_ACCOUNT_LENGTH && account->data[108];
}

APART u64 check_accounts(const Input *in, const Named *n) {
    MUST(same(n->pool->owner, in->program), INVALID_AMM_ACCOUNT_OWNER);
    MUST(n->pool->length == POOL_LENGTH, EXPECTED_ACCOUNT);
    MUST(n->owner->signer, INVALID_SIGN_ACCOUNT);
    MUST(same(n->tokens->key, TOKEN), INVALID_SPL_TOKEN_PROGRAM);
    const u8 *pool = n->pool->data;
    u8 authority[32];
    Seed seeds[2] = {{(const u8 *)"amm authority", 13}, {pool + P_NONCE, 1}};
    MUST(!sol_create_program_address(seeds, 2, in->program, authority), INVALID_PROGRAM_ADDRESS);
    MUST(same(authority, n->authority->key), INVALID_PROGRAM_ADDRESS);
    MUST(same(n->coin->key, pool + P_COIN_VAULT), INVALID_COIN_VAULT);
    MUST(same(n->pc->key, pool + P_PC_VAULT), INVALID_PC_VAULT);
    MUST(!same(n->source->key, n->coin->key) && !same(n->source->key, n->pc->key), INVALID_USER_TOKEN);
    MUST(!same(n->destination->key, n->coin->key) && !same(n->destination->key, n->pc->key), INVALID_USER_TOKEN);
    MUST(is_classic(n->coin) && is_classic(n->pc) && is_classic(n->source) && is_classic(n->destination),
         INVALID_SPL_TOKEN_PROGRAM);
    MUST(n->pool->writable && n->coin->writable && n->pc->writable && n->source->writable && n->destination->writable,
         NEED_WRITABLE);
    u64 status = u64_at(pool + P_STATUS);
    MUST(status == SWAP_ONLY || status == WAITING_TRADE, INVALID_STATUS);
    if (status == WAITING_TRADE) {
        Clock clock;
        TRY(sol_get_clock_sysvar(&clock));
        MUST((u64)clock.unix_time >= u64_at(pool + P_OPEN_TIME), INVALID_STATUS);
    }
    return 0;
}

APART u64 swap(const Input *in) {
    Named n;
    MUST(in->length >= 17, INVALID_INSTRUCTION_DATA);
    u64 amount = u64_at(in->data + 1), least = u64_at(in->data + 9), fee, out;
    TRY(name_accounts(in, &n));
    TRY(check_accounts(in, &n));
    const u8 *pool = n.pool->data;
    u64 coin = token_amount(n.coin), pc = token_amount(n.pc);
    u64 owed_coin = u64_at(pool + P_OWED_COIN), owed_pc = u64_at(pool + P_OWED_PC);
    MUST(owed_coin <= coin && owed_pc <= pc, CHECKED_SUB_OVERFLOW);
    int from_coin = same(token_mint(n.source), token_mint(n.coin)) && same(token_mint(n.destination), token_mint(n.pc));
    int from_pc = same(token_mint(n.source), token_mint(n.pc)) && same(token_mint(n.destination), token_mint(n.coin));
    MUST(from_coin || from_pc, INVALID_USER_TOKEN);
    u64 given = from_coin ? coin - owed_coin : pc - owed_pc, taken = from_coin ? pc - owed_pc : coin - owed_coin;
    MUST(token_amount(n.source) >= amount, INSUFFICIENT_FUNDS);
    MUST(given && taken, CHECKED_EMPTY_FUNDS);
    TRY(scale(&fee, amount, u64_at(pool + P_FEE_NUMERATOR), u64_at(pool + P_FEE_DENOMINATOR), 1));
    MUST(fee <= amount, CHECKED_SUB_OVERFLOW);
    u64 net = amount - fee;
    MUST(given + net >= net, CHECKED_ADD_OVERFLOW);
    TRY(scale(&out, taken, net, given + net, 0));
    MUST(out >= least, EXCEEDED_SLIPPAGE);
    MUST(out && amount, INVALID_INPUT);
    MUST(out < taken, INSUFFICIENT_FUNDS);
    Transfer in_ = {n.source, from_coin ? n.coin : n.pc, 0, n.owner, n.tokens, amount, 0};
    TRY(transfer(&in_));
    Seed seeds[2] = {{(const u8 *)"amm authority", 13}, {pool + P_NONCE, 1}};
    Signer signer = {seeds, 2};
    Transfer out_ = {from_coin ? n.pc : n.coin, n.destination, 0, n.authority, n.tokens, out, &signer};
    return transfer(&out_);
}

u64 entrypoint(u8 *raw) {
    Input in;
    read_input(&in, raw);
    if (!in.length || (in.data[0] != SWAP_BASE_IN && in.data[0] != SWAP_BASE_IN_V2)) {
        SAY("only SwapBaseIn and SwapBaseInV2 are built");
        return NO_SUCH_INSTRUCTION;
    }
    return swap(&in);
}
