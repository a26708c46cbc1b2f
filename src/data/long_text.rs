//! Encoding of very long documents in pieces, without changing a single id.
//!
//! The library needs about 100 bytes of memory per byte of text and works on one core per text, so a
//! book in one file would take gigabytes and a gigabyte could not be encoded at all. Long texts are
//! therefore cut between words, and a cut is made only where the tokenizer shows that it does not
//! look across: the text around it gives the same ids whole and in two parts.

use std::convert::Infallible;

/// Texts up to this many bytes are encoded whole.
pub const LONG: usize = 512 << 10;
/// Least length of a piece, in bytes.
const PIECE: usize = 128 << 10;
/// Text on either side of a cut that is encoded to judge it, in bytes: many times the longest word.
const WINDOW: usize = 512;
/// Places tried before a piece is made longer by [`PIECE`].
const TRIES: usize = 32;

/// Pieces whose ids, one after the other, are the ids of `text`. The whole text when no place to
/// cut is found. `encode` gives the ids of a text.
///
/// A cut falls before a blank between two ASCII letters. Tokenizers that put a blank of their own
/// before every text (SentencePiece's `▁`) get the next piece without its blank.
pub fn pieces<E>(text: &str, encode: impl Fn(&str) -> Result<Vec<u32>, E>) -> Result<Vec<&str>, E> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut from = PIECE;
    while from + PIECE < text.len() {
        match cut(text, from, &encode)? {
            Some((end, next)) => {
                pieces.push(&text[start..end]);
                start = next;
                from = next + PIECE;
            }
            None => from += PIECE,
        }
    }
    pieces.push(&text[start..]);
    Ok(pieces)
}

/// Pieces of `text` cut between words, for readers that look at one word at a time.
pub fn word_pieces(text: &str) -> Vec<&str> {
    if text.len() <= LONG {
        return vec![text];
    }
    let bytes = |t: &str| Ok::<_, Infallible>(t.bytes().map(u32::from).collect());
    let Ok(pieces) = pieces(text, bytes);
    pieces
}

/// First place from byte `from` on where a cut changes nothing: the end of the piece before it and
/// the start of the one after it.
fn cut<E>(
    text: &str,
    from: usize,
    encode: &impl Fn(&str) -> Result<Vec<u32>, E>,
) -> Result<Option<(usize, usize)>, E> {
    let near = &text.as_bytes()[from..text.len().min(from + PIECE)];
    let between_words =
        |w: &[u8]| w[0].is_ascii_alphabetic() && w[1] == b' ' && w[2].is_ascii_alphabetic();
    let places = near.windows(3).enumerate().filter(|(_, w)| between_words(w)).map(|(i, _)| i);
    for place in places.take(TRIES) {
        let end = from + place + 1;
        // A character has at most four bytes, so a few steps reach a boundary.
        let boundary = |&i: &usize| text.is_char_boundary(i);
        let window_start = (0..=end.saturating_sub(WINDOW)).rev().find(boundary).unwrap_or(0);
        let limit = text.len();
        let window_end = ((end + WINDOW).min(limit)..limit).find(boundary).unwrap_or(limit);
        let whole = encode(&text[window_start..window_end])?;
        let left = encode(&text[window_start..end])?;
        let Some(rest) = whole.strip_prefix(left.as_slice()) else { continue };
        for next in [end, end + 1] {
            if encode(&text[next..window_end])? == rest {
                return Ok(Some((end, next)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Encoded = Result<Vec<u32>, ()>;

    fn check(text: &str, encode: impl Fn(&str) -> Encoded) -> usize {
        let pieces = pieces(text, &encode).unwrap();
        let joined: Vec<u32> = pieces.iter().flat_map(|p| encode(p).unwrap()).collect();
        assert_eq!(joined, encode(text).unwrap());
        pieces.len()
    }

    fn bytes(text: &str) -> Encoded {
        Ok(text.bytes().map(u32::from).collect())
    }

    #[test]
    fn texts_are_cut_between_words_only() {
        let text = "one two é three ".repeat(40_000);
        assert!(check(&text, bytes) >= 4);
        // A tokenizer that puts a blank before every text.
        assert!(check(&text, |t| bytes(&format!(" {t}"))) >= 4);
        // No blank at all, blanks that are not between letters, short texts.
        assert_eq!(check(&"x".repeat(600_000), bytes), 1);
        assert_eq!(check(&"日 本 ".repeat(100_000), bytes), 1);
        assert_eq!(check("a b c", bytes), 1);
    }

    #[test]
    fn tokenizers_that_look_across_words_are_not_cut() {
        // Ids count from the end of the text: every cut would show.
        let text = "one two ".repeat(80_000);
        let count = |t: &str| Ok((0..t.len() as u32).rev().collect());
        assert_eq!(check(&text, count), 1);
    }
}
