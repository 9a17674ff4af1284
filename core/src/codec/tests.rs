//! The wire without Python: what the writer lays out, and what the verifier refuses.

use super::invalid::Reason;
use super::verify::{self, MAX_DEPTH, MAX_TABLES, SHARED_BYTES, Table, Verifier};
use super::write::Writer;

/// A table of one string: slot 0, at 4.
const VTABLE: [u8; 6] = [6, 0, 8, 0, 4, 0];

fn one_string(text: &str) -> Vec<u8> {
    let mut out = Writer::new(Vec::new(), b"TEST");
    let (position, _) = out.table(&VTABLE, 8, None);
    out.bytes(position + 4, text.as_bytes());
    out.finish(position).expect("short enough")
}

fn check(buf: &[u8]) -> Result<(), Reason> {
    let position = verify::root(buf, b"TEST")?;
    let mut check = Verifier::new(buf);
    let table = check.enter(position)?;
    match table.checked_field(0, 4)? {
        0 => Ok(()),
        at => check.string(at),
    }
}

#[test]
fn a_written_table_is_found_again() {
    for text in ["", "a", "abc", "abcd", "grüße"] {
        let buf = one_string(text);
        assert_eq!(buf.len() % 4, 0);
        assert_eq!(check(&buf), Ok(()));
        let table = Table::find(&buf, verify::root(&buf, b"TEST").unwrap()).unwrap();
        assert_eq!(table.position % 8, 4);
        assert!(table.has_layout(&VTABLE));
        assert_eq!(table.field(1), 0);
        assert_eq!(verify::contents(&buf, table.field(0)), text.as_bytes());
    }
}

#[test]
fn neighbours_share_a_vtable() {
    let mut out = Writer::new(Vec::new(), b"TEST");
    let (one, vtable) = out.table(&VTABLE, 8, None);
    let (other, again) = out.table(&VTABLE, 8, Some(vtable));
    assert_eq!(vtable, again);
    let buf = out.finish(one).unwrap();
    assert!(Table::find(&buf, one).unwrap().has_layout(&VTABLE));
    assert!(Table::find(&buf, other).unwrap().has_layout(&VTABLE));
}

#[test]
fn every_shorter_buffer_is_refused() {
    let buf = one_string("abc");
    for length in 0..buf.len() {
        assert!(check(&buf[..length]).is_err(), "{length}");
    }
}

#[test]
fn every_changed_byte_is_refused_or_read_within_bounds() {
    let buf = one_string("abcdefg");
    for at in 0..buf.len() {
        for value in 0..=255 {
            let mut changed = buf.clone();
            changed[at] = value;
            if check(&changed).is_ok() {
                let table =
                    Table::find(&changed, verify::root(&changed, b"TEST").unwrap()).unwrap();
                if table.field(0) != 0 {
                    assert!(
                        std::str::from_utf8(verify::contents(&changed, table.field(0))).is_ok()
                    );
                }
            }
        }
    }
}

#[test]
fn reasons() {
    let good = one_string("abc");
    let root = verify::root(&good, b"TEST").unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut buf = good.clone();
        buf[at..at + bytes.len()].copy_from_slice(bytes);
        check(&buf)
    };
    assert_eq!(with(4, b"BEST"), Err(Reason::WrongIdentifier));
    assert_eq!(with(0, &[root as u8 + 1]), Err(Reason::Misaligned));
    assert_eq!(with(0, &[0, 1]), Err(Reason::OffsetOutOfBounds));
    assert_eq!(with(root, &100i32.to_le_bytes()), Err(Reason::BadVtable)); // before the buffer
    assert_eq!(with(root, &(-100i32).to_le_bytes()), Err(Reason::BadVtable)); // behind it
    assert_eq!(with(root, &1i32.to_le_bytes()), Err(Reason::BadVtable)); // odd
    assert_eq!(with(8, &[2]), Err(Reason::BadVtable)); // shorter than its own head
    assert_eq!(with(8, &[7]), Err(Reason::BadVtable)); // odd length
    assert_eq!(with(10, &[3]), Err(Reason::BadVtable)); // table shorter than its own head
    assert_eq!(with(10, &[255]), Err(Reason::BadVtable)); // table past the end
    assert_eq!(with(12, &[2]), Err(Reason::BadVtable)); // field inside the table's head
    assert_eq!(with(12, &[6]), Err(Reason::BadVtable)); // field past the table
    assert_eq!(with(root + 4, &[5]), Err(Reason::Misaligned));
    assert_eq!(
        with(root + 4, &[0, 0, 1, 0]),
        Err(Reason::OffsetOutOfBounds)
    );
    assert_eq!(
        with(root + 4, &[255, 255, 255, 255]),
        Err(Reason::Misaligned)
    );
    assert_eq!(
        with(root + 8, &[255, 255, 255, 255]),
        Err(Reason::BadString)
    );
    assert_eq!(with(root + 15, b"x"), Err(Reason::BadString)); // no final zero
    assert_eq!(with(root + 12, &[0xFF]), Err(Reason::NotUtf8));
    assert_eq!(with(12, &[0, 0]), Ok(())); // absent
}

#[test]
fn tables_and_depth_are_bounded() {
    let buf = one_string("");
    let root = verify::root(&buf, b"TEST").unwrap();
    let mut deep = Verifier::new(&buf);
    for _ in 0..MAX_DEPTH {
        assert!(deep.enter(root).is_ok());
    }
    assert_eq!(deep.enter(root).err(), Some(Reason::TooDeep));

    let long = [buf.as_slice(), &vec![0; 1 << 20]].concat();
    let mut wide = Verifier::new(&long);
    for _ in 0..MAX_TABLES {
        assert!(wide.enter(root).is_ok());
        wide.leave();
    }
    assert_eq!(wide.enter(root).err(), Some(Reason::TooManyTables));
}

#[test]
fn what_is_shared_is_counted_every_time() {
    let buf = one_string(&"x".repeat(10_000));
    let table = Table::find(&buf, verify::root(&buf, b"TEST").unwrap()).unwrap();
    let mut check = Verifier::new(&buf);
    let mut times = 0;
    while check.string(table.field(0)).is_ok() {
        times += 1;
    }
    assert_eq!(times, (buf.len() + SHARED_BYTES) / 10_004);
    assert_eq!(check.string(table.field(0)), Err(Reason::TooMuchOutput));
}

#[test]
fn names_of_reasons_are_distinct() {
    let mut names = Reason::ALL.map(Reason::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
}
