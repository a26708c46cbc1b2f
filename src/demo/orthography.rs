//! Words to English text and back: capitals, the choice between `a` and `an`, and spaces.
//!
//! All three are functions of the words, so writing adds no choice, and reading undoes it exactly
//! or refuses: `a apple`, a small first letter or two spaces are errors, not variants.

/// Marks that stand without a space before them.
const MARKS: [char; 3] = ['.', ',', '?'];

fn vowel(word: &str) -> bool {
    word.starts_with(['a', 'e', 'i', 'o', 'u'])
}

/// Whether `mark` ends a sentence.
pub fn ends_sentence(mark: char) -> bool {
    mark == '.' || mark == '?'
}

/// Appends the sentence made of `words` to `text`; names bring their own capitals.
pub fn write(words: &[&str], text: &mut String) {
    for (i, word) in words.iter().enumerate() {
        let mark = word.starts_with(MARKS);
        if i > 0 && !mark {
            text.push(' ');
        }
        let article = *word == "a" && words.get(i + 1).is_some_and(|next| vowel(next));
        let word = if article { "an" } else { word };
        if i == 0 {
            let (head, tail) = word.split_at(1);
            text.push_str(&head.to_ascii_uppercase());
            text.push_str(tail);
        } else {
            text.push_str(word);
        }
    }
}

/// Words of one sentence, or `None` where [`write()`] could not have written it. `known` tells
/// whether the first word stands in the vocabulary with its capital, as names do.
pub fn read(sentence: &str, known: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for (i, piece) in sentence.split(' ').enumerate() {
        let (word, mark) = match piece.char_indices().last() {
            Some((at, c)) if MARKS.contains(&c) => (&piece[..at], Some(c)),
            _ => (piece, None),
        };
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_alphabetic()) {
            return None;
        }
        if i == 0 {
            if !word.starts_with(|c: char| c.is_ascii_uppercase()) {
                return None;
            }
            let lower = word[..1].to_ascii_lowercase() + &word[1..];
            words.push(if known(word) { word.to_string() } else { lower });
        } else {
            words.push(word.to_string());
        }
        words.extend(mark.map(String::from));
    }
    for i in 0..words.len() {
        let before_vowel = words.get(i + 1).is_some_and(|next| vowel(next));
        match words[i].as_str() {
            "a" if before_vowel => return None,
            "an" if before_vowel => words[i] = "a".into(),
            "an" => return None,
            _ => {}
        }
    }
    Some(words)
}

/// Sentences of `text` in order, each up to and including its end mark, trimmed; a line break
/// also ends one. What is left at the end comes last, without a mark.
pub fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(|c: char| ends_sentence(c) || c == '\n')
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_and_read_back() {
        let words = ["a", "owl", "sees", "Anna", ",", "and", "a", "dog", "runs", "."];
        let mut text = String::new();
        write(&words, &mut text);
        assert_eq!(text, "An owl sees Anna, and a dog runs.");
        assert_eq!(read(&text, |w| w == "Anna").unwrap(), words);
        assert_eq!(read("Anna runs.", |w| w == "Anna").unwrap()[0], "Anna");
    }

    #[test]
    fn other_spellings_are_refused() {
        let bad = [
            "an owl sees.",
            "A owl sees.",
            "An dog sees.",
            "The dog  sees.",
            "The dog sees .",
            "The d-og sees.",
            "The dog an.",
            "",
        ];
        for text in bad {
            assert_eq!(read(text, |_| false), None, "{text}");
        }
    }

    #[test]
    fn sentences_end_at_marks_and_lines() {
        let split: Vec<_> = sentences("A dog runs. Why? Yes\nThe end").collect();
        assert_eq!(split, ["A dog runs.", "Why?", "Yes", "The end"]);
    }
}
