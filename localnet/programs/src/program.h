/* What every stand-in program stands on: its accounts, calls of other programs, integers of 128 bits.
 *
 * These are programs of our own for an offline chain. They have the instruction and account layouts of the programs they
 * stand in for and nothing of their code, and they do only what the offline market needs.
 *
 * Sources: the loader's input layout and system calls in anza-xyz/agave (Apache-2.0); SPL Token's account layout and
 * instruction numbers.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))
#define MOST_ACCOUNTS 20

/* Failures of the runtime, by their number in the upper half; failures of a program in the lower. */
#define BUILTIN(number) ((u64)(number) << 32)
#define INVALID_ARGUMENT BUILTIN(2)
#define INVALID_INSTRUCTION_DATA BUILTIN(3)
#define INVALID_ACCOUNT_DATA BUILTIN(4)
#define INCORRECT_PROGRAM BUILTIN(7)
#define MISSING_SIGNATURE BUILTIN(8)
#define NOT_ENOUGH_ACCOUNTS BUILTIN(11)
#define INVALID_SEEDS BUILTIN(14)
#define INVALID_ACCOUNT_OWNER BUILTIN(23)
#define ARITHMETIC_OVERFLOW BUILTIN(24)

/* Failures of Anchor programs before their own code begins. */
#define ANCHOR_CONSTRAINT_MUT 2000
#define ANCHOR_CONSTRAINT_HAS_ONE 2001
#define ANCHOR_CONSTRAINT_RAW 2003
#define ANCHOR_CONSTRAINT_SEEDS 2006
#define ANCHOR_CONSTRAINT_ADDRESS 2012
#define ANCHOR_REQUIRE_KEYS_EQ 2502
#define ANCHOR_REQUIRE_GT 2505
#define ANCHOR_REQUIRE_GTE 2506
#define ANCHOR_WRONG_DISCRIMINATOR 3002
#define ANCHOR_NOT_DESERIALIZED 3003
#define ANCHOR_NOT_ENOUGH_KEYS 3005
#define ANCHOR_WRONG_OWNER 3007
#define ANCHOR_WRONG_PROGRAM 3008
#define ANCHOR_NOT_SIGNER 3010
#define ANCHOR_BAD_ARGUMENTS 102

/* Ours: what the real program can do and its stand-in cannot. */
#define NO_SUCH_INSTRUCTION 77001
#define NOT_BUILT 77002

#define MUST(condition, failure) do { if (!(condition)) return (failure); } while (0)
#define TRY(call) do { u64 failure_ = (call); if (failure_) return failure_; } while (0)

/* An account as calls of other programs want it. */
typedef struct {
    u8 *key;
    u64 *lamports;
    u64 length;
    u8 *data;
    u8 *owner;
    u64 rent_epoch;
    u8 signer, writable, executable;
} Account;

typedef struct {
    Account at[MOST_ACCOUNTS];
    u64 count;
    u8 *data;
    u64 length;
    u8 *program;
} Input;

typedef struct { const u8 *key; u8 writable, signer; } Meta;
typedef struct { const u8 *program; const Meta *metas; u64 count; const u8 *data; u64 length; } Instruction;
typedef struct { const u8 *bytes; u64 length; } Seed;
typedef struct { const Seed *seeds; u64 count; } Signer;
typedef struct { u64 slot; i64 epoch_start; u64 epoch, schedule_epoch; i64 unix_time; } Clock;

extern u64 sol_invoke_signed_c(const Instruction *, const Account *, u64, const Signer *, u64);
extern u64 sol_create_program_address(const Seed *, u64, const u8 *, u8 *);
extern u64 sol_get_clock_sysvar(Clock *);
extern void sol_log_(const char *, u64);

#define SAY(text) sol_log_("stand-in: " text, sizeof("stand-in: " text) - 1)

/* TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA */
static const u8 TOKEN[32] = {6, 221, 246, 225, 215, 101, 161, 147, 217, 203, 225, 70, 206, 235, 121, 172,
                             28, 180, 133, 237, 95, 91, 55, 145, 58, 140, 245, 133, 126, 255, 0, 169};
/* TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb */
static const u8 TOKEN_2022[32] = {6, 221, 246, 225, 238, 117, 143, 222, 24, 66, 93, 188, 228, 108, 205, 218,
                                  182, 26, 252, 77, 131, 185, 13, 39, 254, 189, 249, 40, 216, 161, 139, 252};

INLINE u16 u16_at(const u8 *at) { return *(const u16 *)at; }
INLINE u32 u32_at(const u8 *at) { return *(const u32 *)at; }
INLINE u64 u64_at(const u8 *at) { return *(const u64 *)at; }
INLINE void put_u64(u8 *at, u64 value) { *(u64 *)at = value; }

INLINE int same(const u8 *a, const u8 *b) {
    return u64_at(a) == u64_at(b) && u64_at(a + 8) == u64_at(b + 8) && u64_at(a + 16) == u64_at(b + 16) &&
           u64_at(a + 24) == u64_at(b + 24);
}

/* Read what the loader hands over. Accounts beyond the most are passed over. */
APART void read_input(Input *in, u8 *at) {
    u64 count = u64_at(at);
    at += 8;
    in->count = count < MOST_ACCOUNTS ? count : MOST_ACCOUNTS;
    for (u64 index = 0; index < count; index++) {
        if (*at != 0xff) {
            if (index < MOST_ACCOUNTS) in->at[index] = in->at[*at < MOST_ACCOUNTS ? *at : 0];
            at += 8;
            continue;
        }
        u64 length = u64_at(at + 80);
        if (index < MOST_ACCOUNTS) {
            Account *account = &in->at[index];
            account->signer = at[1];
            account->writable = at[2];
            account->executable = at[3];
            account->key = at + 8;
            account->owner = at + 40;
            account->lamports = (u64 *)(at + 72);
            account->length = length;
            account->data = at + 88;
            account->rent_epoch = u64_at(at + 88 + ((length + 10240 + 7) & ~7ull));
        }
        at += 88 + ((length + 10240 + 7) & ~7ull) + 8;
    }
    in->length = u64_at(at);
    in->data = at + 8;
    in->program = at + 8 + in->length;
}

/* --- Integers */

/* The product; its upper half in `high`. */
INLINE u64 multiply(u64 a, u64 b, u64 *high) {
    u64 a0 = (u32)a, a1 = a >> 32, b0 = (u32)b, b1 = b >> 32;
    u64 low = a0 * b0;
    /* Or else the compiler sees through it and calls a routine that is not there. */
    __asm__("" : "+r"(low));
    u64 middle = a1 * b0 + (low >> 32), other = a0 * b1 + (u32)middle;
    *high = a1 * b1 + (middle >> 32) + (other >> 32);
    return (other << 32) | (u32)low;
}

INLINE u32 leading_zeros(u64 value) {
    u32 zeros = 0;
    if (!(value >> 32)) { zeros += 32; value <<= 32; }
    if (!(value >> 48)) { zeros += 16; value <<= 16; }
    if (!(value >> 56)) { zeros += 8; value <<= 8; }
    if (!(value >> 60)) { zeros += 4; value <<= 4; }
    if (!(value >> 62)) { zeros += 2; value <<= 2; }
    return zeros + !(value >> 63);
}

/* One digit of 32 bits of a quotient: (`high` 2^32 + `digit`) / `by`, where `by` has its top bit set and `high` < `by`.
 * `high` becomes the remainder. */
INLINE u64 digit(u64 *high, u64 next, u64 by) {
    u64 top = by >> 32, bottom = (u32)by;
    u64 guess = *high / top, rest = *high % top;
    while (guess >> 32 || guess * bottom > ((rest << 32) | next)) {
        guess--;
        rest += top;
        if (rest >> 32) break;
    }
    *high = ((*high << 32) | next) - guess * by;
    return guess;
}

/* (`high` 2^64 + `low`) / `by`, where `high` < `by`. */
INLINE u64 divide(u64 high, u64 low, u64 by, u64 *rest) {
    if (!high) {
        *rest = low % by;
        return low / by;
    }
    if (!(by >> 32)) {
        u64 part = (high << 32) | (low >> 32), first = part / by;
        part = ((part % by) << 32) | (u32)low;
        *rest = part % by;
        return (first << 32) | (part / by);
    }
    u32 shift = leading_zeros(by);
    if (shift) {
        by <<= shift;
        high = (high << shift) | (low >> (64 - shift));
        low <<= shift;
    }
    u64 first = digit(&high, low >> 32, by);
    u64 second = digit(&high, (u32)low, by);
    *rest = high >> shift;
    return (first << 32) | second;
}

/* `a` * `b` / `by`, up where asked. Fails where `by` is 0 or the result has more than 64 bits. */
APART u64 scale(u64 *result, u64 a, u64 b, u64 by, u64 up) {
    u64 high, rest, low = multiply(a, b, &high);
    MUST(high < by, ARITHMETIC_OVERFLOW);
    *result = divide(high, low, by, &rest);
    if (up && rest) {
        MUST(*result != ~0ull, ARITHMETIC_OVERFLOW);
        ++*result;
    }
    return 0;
}

/* --- Tokens */

#define TOKEN_ACCOUNT_LENGTH 165
#define MINT_LENGTH 82
INLINE u8 *token_mint(const Account *account) { return account->data; }
INLINE u8 *token_owner(const Account *account) { return account->data + 32; }
INLINE u64 token_amount(const Account *account) { return u64_at(account->data + 64); }
INLINE u8 mint_decimals(const Account *account) { return account->data[44]; }

INLINE int is_token_program(const u8 *key) { return same(key, TOKEN) || same(key, TOKEN_2022); }

/* An initialized token account of a token program. */
INLINE int is_token_account(const Account *account) {
    return is_token_program(account->owner) && account->length >= TOKEN_ACCOUNT_LENGTH && account->data[108];
}

typedef struct {
    const Account *from, *to, *mint, *authority, *program;
    u64 amount;
    const Signer *signer; /* 0 where the authority signed the transaction */
} Transfer;

/* Let the token program move tokens, the mint and its decimals checked: TransferChecked. */
APART u64 transfer_checked(const Transfer *t) {
    u8 data[10];
    data[0] = 12;
    for (u32 byte = 0; byte < 8; byte++) data[1 + byte] = (u8)(t->amount >> (8 * byte));
    data[9] = mint_decimals(t->mint);
    Meta metas[4] = {{t->from->key, 1, 0}, {t->mint->key, 0, 0}, {t->to->key, 1, 0}, {t->authority->key, 0, 1}};
    Account accounts[5] = {*t->from, *t->mint, *t->to, *t->authority, *t->program};
    Instruction call = {t->program->key, metas, 4, data, sizeof data};
    return sol_invoke_signed_c(&call, accounts, 5, t->signer, t->signer ? 1 : 0);
}
