//! Lists, page by page.
//!
//! A page begins behind the id that its token names, in the order of ids. So a list that changes between two pages shows
//! what stays exactly once, and a token never grows old.

use std::fmt::Display;
use std::str::FromStr;

use super::status::RequestError;

/// One page of `items`, and the token of the next; an empty token ends the list. `most` 0: all that is left.
pub(crate) fn page<T, I: Ord + FromStr + Display>(
    mut items: Vec<T>,
    id: impl Fn(&T) -> I,
    most: usize,
    token: &str,
) -> Result<(Vec<T>, String), RequestError> {
    if !token.is_empty() {
        // Shown again, and shown in a log: not the whole of whatever it is.
        let refused = || RequestError::Token { token: token.chars().take(64).collect() };
        let after: I = token.parse().map_err(|_| refused())?;
        items.retain(|item| id(item) > after);
    }
    items.sort_by_key(&id);
    let mut next = String::new();
    if most != 0 && items.len() > most {
        items.truncate(most);
        next = items.last().map(|item| id(item).to_string()).unwrap_or_default();
    }
    Ok((items, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_show_everything_once_although_the_list_changes() {
        let (first, token) = page(vec![5, 1, 3, 2], |number| *number, 2, "").unwrap();
        assert_eq!((first, token.as_str()), (vec![1, 2], "2"));
        let (rest, token) = page(vec![1, 3, 4, 5], |number| *number, 2, &token).unwrap();
        assert_eq!((rest, token.as_str()), (vec![3, 4], "4"));
        let (rest, token) = page(vec![1, 3, 4, 5], |number| *number, 2, &token).unwrap();
        assert_eq!((rest, token.as_str()), (vec![5], ""));
    }

    #[test]
    fn a_foreign_token_is_refused() {
        assert!(matches!(page(vec![1], |number| *number, 0, "x"), Err(RequestError::Token { .. })));
    }
}
