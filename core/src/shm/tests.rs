use super::permit::{HALTED, Permit};
use super::table::{Plan, Quote, VOID};

fn quote() -> Quote {
    Quote {
        pool: 0x0102_0304,
        pair: 0xF1F2_F3F4,
        token_in: 0x1112,
        token_out: 0xF314,
        provider: 0x2122,
        protocol: 3,
        staleness: VOID,
        amount_in: u64::MAX,
        amount_out: 1 << 63,
        slot: 5,
        write_version: 6,
        quoted_ns: -7,
        price_impact_bps: -0.5,
        confidence: 0.25,
        oracle_amount_out: u64::MAX - 1,
        route: 11,
        fee_amount: 12,
        batch: 13,
        amount_index: 0xF000_0001,
        hops: 0xF000_0002,
        factors: 14,
    }
}

#[test]
fn words_keep_every_field() {
    assert_eq!(Quote::from_words(&quote().to_words()), quote());
    assert_eq!(
        Quote::from_words(&Quote::default().to_words()),
        Quote::default()
    );
}

#[test]
fn every_part_of_a_table_begins_on_its_own_line() {
    for (capacity, ring, names) in [(1, 16, 4), (2048, 512, 2048), (5, 32, 7)] {
        let layout = Plan::new(capacity, ring, names).unwrap().layout();
        assert_eq!(layout.bytes % 128, 0, "{capacity} {ring} {names}");
        assert_eq!(layout.allocated, layout.bytes);
        assert!(Plan::from_parameters(layout.parameters).is_ok());
    }
    for (capacity, ring, names) in [
        (0, 512, 8),
        (8, 0, 8),
        (8, 17, 8),
        (8, 512, 0),
        (usize::MAX, 512, 8),
    ] {
        assert!(
            Plan::new(capacity, ring, names).is_err(),
            "{capacity} {ring} {names}"
        );
    }
}

#[test]
fn a_permit_is_halted_unless_everything_speaks_for_more() {
    let active = Permit {
        state: 2,
        epoch: 9,
        renewed_ns: 1_000_000_000,
        lease_ns: 500,
        lifted: 3,
        halts: 3,
    };
    assert_eq!(active.effective(1_000_000_000), 2);
    assert_eq!(active.effective(1_000_000_499), 2);
    assert_eq!(
        active.effective(1_000_000_500),
        HALTED,
        "the lease has run out"
    );
    assert_eq!(
        active.effective(900_000_000),
        HALTED,
        "renewed in the future"
    );
    assert_eq!(
        Permit { halts: 4, ..active }.effective(1_000_000_000),
        HALTED,
        "a halt that was not lifted"
    );
    assert_eq!(
        Permit { state: 3, ..active }.effective(1_000_000_000),
        HALTED,
        "an unknown state"
    );
    assert_eq!(Permit { state: 1, ..active }.effective(1_000_000_000), 1);
    assert_eq!(
        Permit {
            state: 258,
            ..active
        }
        .effective(1_000_000_000),
        HALTED,
        "no truncation to a known state"
    );
    assert_eq!(Permit::default().effective(0), HALTED, "a new word");
}
