//! "Did you mean": the known word closest to what was written.

/// Letters that two words must begin with alike for the shorter to be taken for the longer.
const LEAST_PREFIX: usize = 4;

/// The known word that is probably meant, if one is close enough: a mistake or two for every three letters.
pub(super) fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', ' '], "_");
    // What is far longer than any key is no misspelling, and distance costs the product of both lengths.
    if written.len() > 64 {
        return None;
    }
    let written = plain(written);
    let begins = |a: &str, b: &str| b.len() >= LEAST_PREFIX && a.starts_with(b);
    let near = |word: &str| {
        let word = plain(word);
        let shorter = word.chars().count().min(written.chars().count());
        let distance = distance(&written, &word);
        (distance <= (shorter / 3).max(1) || begins(&written, &word) || begins(&word, &written)).then_some(distance)
    };
    known.into_iter().filter_map(|word| Some((near(word)?, word))).min_by_key(|(near, _)| *near).map(|(_, word)| word)
}

/// A sentence for a complaint: the word that is meant, or all there are.
pub(super) fn sentence(written: &str, known: &[&str]) -> String {
    match closest(written, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("write {}", either(known)),
    }
}

/// "`a`, `b` or `c`".
pub(super) fn either(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

/// Letters inserted, left out, changed or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_is_found_and_a_far_one_is_not() {
        let known = ["bind", "upstream", "tls", "trusted_proxies", "limits"];
        for (written, meant) in [
            ("upstrem", Some("upstream")),
            ("Upstream", Some("upstream")),
            ("trusted-proxies", Some("trusted_proxies")),
            ("bnid", Some("bind")),
            ("limit", Some("limits")),
            ("tsl", Some("tls")),
            ("up", None),
            ("limits_on", Some("limits")),
            ("port", None),
            ("", None),
        ] {
            assert_eq!(closest(written, known), meant, "for `{written}`");
        }
    }

    #[test]
    fn distances_count_single_mistakes() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("acb", "abc"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
