//! Words as systemd reads them: command lines (systemd.syntax(7), "Quoting"; systemd.service(5), "Command lines"), specifiers
//! (systemd.unit(5)) and files of variables (systemd.exec(5), `EnvironmentFile=`).

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use anyhow::{Context, Result, bail, ensure};

/// The words of a line, without their quotes.
pub fn split(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().push(escaped(rest.next())?),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_ascii_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    ensure!(quote.is_none(), "a quote without its end: {line}");
    words.extend(word);
    Ok(words)
}

fn escaped(c: Option<char>) -> Result<char> {
    Ok(match c.context("nothing after a backslash")? {
        'n' => '\n',
        't' => '\t',
        's' => ' ',
        c @ ('\\' | '"' | '\'') => c,
        other => bail!("\\{other} is not read here"),
    })
}

/// Puts specifiers in: `known` tells what stands for a letter.
pub fn specifiers(word: &str, known: impl Fn(char) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = word.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => match rest.next() {
                Some('%') => out.push('%'),
                Some(letter) => out += &known(letter).with_context(|| format!("%{letter} is not read here"))?,
                None => bail!("{word} ends with %"),
            },
            other => out.push(other),
        }
    }
    Ok(out)
}

/// Puts variables in: `${NAME}` anywhere, `$NAME` as a word of its own, which becomes as many words as it has. One that is not
/// set is empty, `$$` is a dollar.
pub fn variables(words: &[String], set: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| set.get(name).map_or("", String::as_str);
    let mut out = Vec::new();
    for word in words {
        match word.strip_prefix('$').filter(|name| is_name(name)) {
            Some(name) => out.extend(value(name).split_ascii_whitespace().map(str::to_owned)),
            None => out.push(inside(word, &value)),
        }
    }
    out
}

fn inside<'a>(mut word: &str, value: &impl Fn(&str) -> &'a str) -> String {
    let mut out = String::new();
    while let Some((before, after)) = word.split_once('$') {
        out += before;
        let braced = after.strip_prefix('{').and_then(|rest| rest.split_once('}')).filter(|(name, _)| is_name(name));
        if let Some((name, rest)) = braced {
            out += value(name);
            word = rest;
        } else {
            out.push('$');
            word = after.strip_prefix('$').unwrap_or(after);
        }
    }
    out + word
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// One `NAME=value`.
pub fn assignment(word: &str) -> Result<(String, String)> {
    let (name, value) = word.split_once('=').with_context(|| format!("{word} is no NAME=value"))?;
    ensure!(is_name(name), "{name:?} is no name of a variable");
    Ok((name.to_owned(), value.to_owned()))
}

/// The variables of a file. Nothing is put into their values.
pub fn environment_file(text: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(char::is_ascii_whitespace).is_some() {}
        match rest.peek() {
            None => return Ok(found),
            Some('#' | ';') => while rest.next().is_some_and(|c| c != '\n') {},
            Some(_) => {
                let mut name = String::new();
                while let Some(c) = rest.next_if(|c| !['=', '\n'].contains(c)) {
                    name.push(c);
                }
                ensure!(rest.next() == Some('='), "{name:?} has no value");
                let name = name.trim();
                ensure!(is_name(name), "{name:?} is no name of a variable");
                found.push((name.to_owned(), value(&mut rest).with_context(|| name.to_owned())?));
            }
        }
    }
}

/// Up to the end of the line, without quotes and the white space around it.
fn value(rest: &mut Peekable<Chars<'_>>) -> Result<String> {
    let (mut out, mut quote, mut kept) = (String::new(), None, 0);
    while rest.next_if(|c| *c == ' ' || *c == '\t').is_some() {}
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\n', None) => break,
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            ('\\', None) => out.extend(rest.next().filter(|next| *next != '\n')),
            ('\\', Some('"')) => match rest.next() {
                Some('\n') => {}
                Some(next @ ('"' | '\\' | '`' | '$')) => out.push(next),
                next => {
                    out.push('\\');
                    out.extend(next);
                }
            },
            (c, None) if c.is_ascii_whitespace() => {
                out.push(c);
                continue;
            }
            (c, _) => out.push(c),
        }
        kept = out.len();
    }
    ensure!(quote.is_none(), "a quote without its end");
    out.truncate(kept);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap()
    }

    #[test]
    fn words_are_cut_and_unquoted() {
        assert_eq!(words(r#" /bin/a --b="c d" 'e "f"' g\sh "" "#), ["/bin/a", "--b=c d", "e \"f\"", "g h", ""]);
        assert!(split("a 'b").is_err());
        assert!(split(r"a\q").is_err());
    }

    #[test]
    fn variables_are_put_in_as_systemd_does() {
        let set = BTreeMap::from([("ONE".to_owned(), "one".to_owned()), ("TWO".to_owned(), "two  too".to_owned())]);
        let put = |line: &str| variables(&words(line), &set);
        // systemd.service(5): the examples of its section on command lines, in other words.
        assert_eq!(put("/bin/echo $ONE $TWO ${TWO}"), ["/bin/echo", "one", "two", "too", "two  too"]);
        assert_eq!(put("--a=${ONE},${TWO} --b=${NONE} $NONE"), ["--a=one,two  too", "--b="]);
        assert_eq!(put("$$ONE a$ONE ${ONE 5$"), ["$ONE", "a$ONE", "${ONE", "5$"]);
    }

    #[test]
    fn specifiers_that_are_not_known_are_refused() {
        let known = |letter| (letter == 'H').then(|| "n1".to_owned());
        assert_eq!(specifiers("a-%H-100%%", known).unwrap(), "a-n1-100%");
        assert!(specifiers("%i", known).unwrap_err().to_string().contains("%i"));
        assert!(specifiers("100%", known).is_err());
    }

    #[test]
    fn a_file_of_variables_is_read_as_systemd_does() {
        let text = "# no\n; no\nA=one two  \n  B = 'a # b' \nC=\"x \\\"y\\\" \\n\"\nD=\nE=a\\\nb\n";
        let expected = [("A", "one two"), ("B", "a # b"), ("C", "x \"y\" \\n"), ("D", ""), ("E", "ab")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(environment_file(text).unwrap(), expected);
        assert!(environment_file("A\nB=1\n").unwrap_err().to_string().contains("\"A\" has no value"));
        assert!(environment_file("1A=2").is_err());
        assert!(environment_file("A='b").is_err());
    }
}
