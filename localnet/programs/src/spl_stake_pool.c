/* Stand-in for the SPL stake pool: `DepositSol` and `WithdrawSol`, with and without a least amount.
 *
 * Layouts, checks and formulas after solana-program/stake-pool (Apache-2.0); its text is not used. Lamports leave the
 * reserve through the real stake program.
 */
#include "calls.h"
#include "program.h"

#define DEPOSIT_SOL 14
#define WITHDRAW_SOL 16
#define DEPOSIT_SOL_GUARDED 25
#define WITHDRAW_SOL_GUARDED 26
#define POOL_KIND 1

#define INVALID_PROGRAM_ADDRESS 1
#define INVALID_STATE 2
#define CALCULATION_FAILURE 3
#define SIGNATURE_MISSING 7
#define INVALID_FEE_ACCOUNT 9
#define WRONG_POOL_MINT 10
#define WRONG_STAKE_STATE 11
#define OUT_OF_DATE 17
#define WITHDRAWAL_TOO_SMALL 28
#define DEPOSIT_TOO_SMALL 29
#define INVALID_DEPOSIT_AUTHORITY 31
#define INVALID_WITHDRAW_AUTHORITY 34
#define WITHDRAWAL_TOO_LARGE 35
#define EXCEEDED_SLIPPAGE 39

#define P_BUMP 97
#define P_RESERVE 130
#define P_MINT 162
#define P_MANAGER_FEE 194
#define P_TOKEN_PROGRAM 226
#define P_TOTAL_LAMPORTS 258
#define P_SUPPLY 266
#define P_UPDATED_EPOCH 274
/* From here on optional fields move what follows them. */
#define P_OPTIONS 346
#define RESERVE_RENT 4
#define STAKE_LENGTH 200

/* Stake11111111111111111111111111111111111111 */
static const u8 STAKE[32] = {6, 161, 216, 23, 145, 55, 84, 42, 152, 52, 55, 189, 254, 42, 122, 178,
                             85, 127, 83, 92, 138, 120, 114, 43, 104, 164, 157, 192, 0, 0, 0, 0};

typedef struct { u64 denominator, numerator; } Fee;

typedef struct {
    Fee deposit, withdrawal;
    u64 referral; /* percent of the deposit's fee */
    const u8 *depositor, *withdrawer; /* who else must sign, 0 for nobody */
} Terms;

typedef struct { const u8 *data; u64 length, at; int bad; } Reader;

INLINE const u8 *take(Reader *in, u64 bytes) {
    in->bad |= in->at + bytes > in->length;
    const u8 *found = in->data + (in->bad ? 0 : in->at);
    in->at += bytes;
    return found;
}

INLINE const u8 *take_address(Reader *in) {
    u8 some = *take(in, 1);
    in->bad |= some > 1;
    return some ? take(in, 32) : 0;
}

INLINE void pass_future_fee(Reader *in) {
    u8 kind = *take(in, 1);
    in->bad |= kind > 2;
    if (kind) take(in, 16);
}

INLINE Fee take_fee(Reader *in) {
    const u8 *at = take(in, 16);
    return (Fee){u64_at(at), u64_at(at + 8)};
}

APART u64 read_terms(const Account *pool, Terms *terms) {
    Reader in = {pool->data, pool->length, P_OPTIONS, 0};
    pass_future_fee(&in);
    take_address(&in);
    take_address(&in);
    take(&in, 32);
    pass_future_fee(&in);
    take(&in, 1);
    terms->depositor = take_address(&in);
    terms->deposit = take_fee(&in);
    terms->referral = *take(&in, 1);
    terms->withdrawer = take_address(&in);
    terms->withdrawal = take_fee(&in);
    MUST(!in.bad, INVALID_STATE);
    return 0;
}

/* Part of an amount, rounded up; nothing where there is no denominator. */
APART u64 part(const Fee *fee, u64 amount, u64 *result) {
    *result = 0;
    if (!fee->denominator) return 0;
    MUST(fee->numerator <= fee->denominator, CALCULATION_FAILURE);
    MUST(!scale(result, amount, fee->numerator, fee->denominator, 1), CALCULATION_FAILURE);
    return 0;
}

/* What both instructions check. */
APART u64 check_pool(const Input *in, const Account *authority, const Account *reserve, const Account *mint,
                     const Account *fees) {
    const Account *pool = in->at;
    MUST(same(pool->owner, in->program), INCORRECT_PROGRAM);
    MUST(pool->length > P_OPTIONS && pool->data[0] == POOL_KIND, INVALID_STATE);
    const u8 *data = pool->data;
    u8 derived[32];
    Seed seeds[3] = {{pool->key, 32}, {(const u8 *)"withdraw", 8}, {data + P_BUMP, 1}};
    MUST(!sol_create_program_address(seeds, 3, in->program, derived), INVALID_PROGRAM_ADDRESS);
    MUST(same(derived, authority->key), INVALID_PROGRAM_ADDRESS);
    MUST(same(mint->key, data + P_MINT), WRONG_POOL_MINT);
    MUST(same(reserve->key, data + P_RESERVE), INVALID_PROGRAM_ADDRESS);
    MUST(same(fees->key, data + P_MANAGER_FEE), INVALID_FEE_ACCOUNT);
    Clock clock;
    TRY(sol_get_clock_sysvar(&clock));
    MUST(u64_at(data + P_UPDATED_EPOCH) >= clock.epoch, OUT_OF_DATE);
    return 0;
}

INLINE u64 check_extra(const Input *in, u64 at, const u8 *wanted, u64 failure) {
    if (!wanted) return 0;
    MUST(in->count > at && same(in->at[at].key, wanted), failure);
    MUST(in->at[at].signer, SIGNATURE_MISSING);
    return 0;
}

APART u64 deposit(const Input *in, u64 lamports, u64 least) {
    const Account *a = in->at;
    MUST(in->count >= 10, NOT_ENOUGH_ACCOUNTS);
    const Account *pool = a, *authority = a + 1, *reserve = a + 2, *user = a + 3, *destination = a + 4, *fees = a + 5,
                  *referrer = a + 6, *mint = a + 7, *system = a + 8, *tokens = a + 9;
    Terms terms;
    TRY(check_pool(in, authority, reserve, mint, fees));
    TRY(read_terms(pool, &terms));
    TRY(check_extra(in, 10, terms.depositor, INVALID_DEPOSIT_AUTHORITY));
    u8 *data = pool->data;
    MUST(same(tokens->key, data + P_TOKEN_PROGRAM) && same(system->key, SYSTEM), INCORRECT_PROGRAM);
    u64 total = u64_at(data + P_TOTAL_LAMPORTS), supply = u64_at(data + P_SUPPLY), minted = lamports, fee, referral;
    if (total && supply) MUST(!scale(&minted, lamports, supply, total, 0), CALCULATION_FAILURE);
    TRY(part(&terms.deposit, minted, &fee));
    MUST(!scale(&referral, fee, terms.referral, 100, 0) && referral <= fee, CALCULATION_FAILURE);
    u64 given = minted - fee;
    MUST(given, DEPOSIT_TOO_SMALL);
    MUST(given >= least, EXCEEDED_SLIPPAGE);
    MUST(supply + minted >= supply && total + lamports >= total, CALCULATION_FAILURE);
    Transfer put_in = {user, reserve, 0, user, system, lamports, 0};
    TRY(transfer_lamports(&put_in));
    Seed seeds[3] = {{pool->key, 32}, {(const u8 *)"withdraw", 8}, {data + P_BUMP, 1}};
    Signer signer = {seeds, 3};
    Supply to_user = {destination, mint, authority, tokens, given, &signer};
    TRY(change_supply(&to_user, 0));
    Supply to_manager = {fees, mint, authority, tokens, fee - referral, &signer};
    if (fee - referral) TRY(change_supply(&to_manager, 0));
    Supply to_referrer = {referrer, mint, authority, tokens, referral, &signer};
    if (referral) TRY(change_supply(&to_referrer, 0));
    put_u64(data + P_SUPPLY, supply + minted);
    put_u64(data + P_TOTAL_LAMPORTS, total + lamports);
    return 0;
}

/* Take lamports out of the reserve. Stake program: Withdraw. */
APART u64 withdraw_stake(const Input *in, u64 lamports) {
    const Account *a = in->at, *authority = a + 1, *reserve = a + 4, *user = a + 5, *clock = a + 8, *history = a + 9,
                  *stake = a + 10;
    u8 data[12] = {4};
    write_u64(data + 4, lamports);
    Meta metas[5] = {{reserve->key, 1, 0}, {user->key, 1, 0}, {clock->key, 0, 0}, {history->key, 0, 0},
                     {authority->key, 0, 1}};
    Account accounts[6] = {*reserve, *user, *clock, *history, *authority, *stake};
    Seed seeds[3] = {{a->key, 32}, {(const u8 *)"withdraw", 8}, {a->data + P_BUMP, 1}};
    Signer signer = {seeds, 3};
    Instruction call = {stake->key, metas, 5, data, sizeof data};
    return sol_invoke_signed_c(&call, accounts, 6, &signer, 1);
}

/* Whether the manager's account can take a fee: where it cannot, nobody is kept from leaving, and none is charged. */
INLINE int takes_fees(const Account *fees, const u8 *pool) {
    return same(fees->owner, pool + P_TOKEN_PROGRAM) && is_token_account(fees) && fees->data[108] == 1 &&
           same(token_mint(fees), pool + P_MINT);
}

APART u64 withdraw(const Input *in, u64 tokens, u64 least) {
    const Account *a = in->at;
    MUST(in->count >= 12, NOT_ENOUGH_ACCOUNTS);
    const Account *pool = a, *authority = a + 1, *user = a + 2, *source = a + 3, *reserve = a + 4, *fees = a + 6,
                  *mint = a + 7, *stake = a + 10, *program = a + 11;
    Terms terms;
    TRY(check_pool(in, authority, reserve, mint, fees));
    TRY(read_terms(pool, &terms));
    TRY(check_extra(in, 12, terms.withdrawer, INVALID_WITHDRAW_AUTHORITY));
    u8 *data = pool->data;
    MUST(same(program->key, data + P_TOKEN_PROGRAM) && same(stake->key, STAKE), INCORRECT_PROGRAM);
    u64 total = u64_at(data + P_TOTAL_LAMPORTS), supply = u64_at(data + P_SUPPLY), fee = 0, lamports = 0;
    if (!same(source->key, fees->key) && takes_fees(fees, data)) TRY(part(&terms.withdrawal, tokens, &fee));
    u64 burnt = tokens - fee;
    if (supply) MUST(!scale(&lamports, burnt, total, supply, 0), CALCULATION_FAILURE);
    MUST(lamports, WITHDRAWAL_TOO_SMALL);
    MUST(lamports >= least, EXCEEDED_SLIPPAGE);
    MUST(same(reserve->owner, STAKE) && reserve->length == STAKE_LENGTH && u32_at(reserve->data) == 1, WRONG_STAKE_STATE);
    MUST(*reserve->lamports >= lamports && *reserve->lamports - lamports >= u64_at(reserve->data + RESERVE_RENT),
         WITHDRAWAL_TOO_LARGE);
    MUST(supply >= burnt && total >= lamports, CALCULATION_FAILURE);
    Supply from_user = {source, mint, user, program, burnt, 0};
    TRY(change_supply(&from_user, 1));
    Transfer to_manager = {source, fees, mint, user, program, fee, 0};
    if (fee) TRY(transfer_checked(&to_manager));
    TRY(withdraw_stake(in, lamports));
    put_u64(data + P_SUPPLY, supply - burnt);
    put_u64(data + P_TOTAL_LAMPORTS, total - lamports);
    return 0;
}

u64 entrypoint(u8 *raw) {
    Input in;
    read_input(&in, raw);
    u64 kind = in.length ? in.data[0] : 0, guarded = kind == DEPOSIT_SOL_GUARDED || kind == WITHDRAW_SOL_GUARDED;
    if (!guarded && kind != DEPOSIT_SOL && kind != WITHDRAW_SOL) {
        SAY("only DepositSol and WithdrawSol are built");
        return NO_SUCH_INSTRUCTION;
    }
    MUST(in.length >= (guarded ? 17 : 9), INVALID_INSTRUCTION_DATA);
    MUST(in.count, NOT_ENOUGH_ACCOUNTS);
    u64 amount = u64_at(in.data + 1), least = guarded ? u64_at(in.data + 9) : 0;
    return kind == DEPOSIT_SOL || kind == DEPOSIT_SOL_GUARDED ? deposit(&in, amount, least) : withdraw(&in, amount, least);
}
