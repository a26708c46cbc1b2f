//! Damage: the same for the same file and number.

use chtsl::rng::{Purpose, Stream};

/// A damaged copy: one to three of flipped bits, odd bytes, cuts, splices, doubled and zeroed pieces and
/// numbers made large, within `range` (a header, where the decisions are) or anywhere.
pub fn mutate(good: &[u8], head: usize, kind: u32, round: u64) -> Vec<u8> {
    let stream = Stream::new(99, Purpose::Corpus, kind, round as u32);
    let draw = |k: u64, bound: usize| stream.below(k, bound.max(1) as u64) as usize;
    // Half of the mutants are of the header alone.
    let mut part = if round.is_multiple_of(2) { good.len() } else { head.min(good.len()) };
    let mut bytes = good.to_vec();
    for step in 0..1 + draw(0, 3) as u64 {
        part = part.min(bytes.len());
        if part == 0 {
            break;
        }
        let k = 16 * (step + 1);
        let at = draw(k, part);
        let end = (at + 1 + draw(k + 1, 40)).min(part);
        match draw(k + 2, 8) {
            0 => bytes[at] ^= 1 << draw(k + 3, 8),
            1 => bytes[at] = draw(k + 3, 256) as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = draw(k + 3, bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => bytes[at..end].fill(0),
            6 => bytes[at] = b"0123456789{}[]\",:-.e"[draw(k + 3, 20)],
            // A number becomes a large one: sizes and ids are what readers trust too easily.
            _ => {
                let digit = (at..part).find(|i| bytes[*i].is_ascii_digit()).unwrap_or(at);
                let long: &[u8] = [&b"99"[..], b"99999999", b"9999999999999999999"][draw(k + 3, 3)];
                bytes.splice(digit..digit, long.iter().copied());
            }
        }
    }
    bytes
}
