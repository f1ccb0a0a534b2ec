//! From a condition's text to its words, each with its place.
use super::number::Number;
use crate::core::decode::Step;
use crate::core::reference::is_bare_char;

/// A word of a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    /// In bytes, from the beginning of the text.
    pub from: usize,
    pub to: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A name and the path behind it.
    Name(String, Vec<Step>),
    Number(Number),
    Text(String),
    Symbol(&'static str),
    End,
}

/// What is no word, where, and what is allowed.
pub(super) struct NoWord {
    pub at: usize,
    pub found: String,
    pub allowed: &'static str,
}

/// The longer ones first.
const SYMBOLS: [&str; 15] = ["==", "!=", "<=", ">=", "??", "<", ">", "+", "-", "*", "/", "%", "(", ")", ","];
/// What other languages write, and what is written here.
const FOREIGN: [(&str, &str); 5] =
    [("&&", "and"), ("||", "or"), ("!", "not, or != between two things"), ("=", "== to compare"), ("`", "a text in quotes: 'x' or \"x\"")];

pub(super) fn words(text: &str) -> Result<Vec<Token>, NoWord> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.at = text.len() - lexer.rest().trim_start().len();
        let from = lexer.at;
        let kind = lexer.word()?;
        let end = kind == Kind::End;
        tokens.push(Token { kind, from, to: lexer.at });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Takes what fits, as far as it goes.
    fn run(&mut self, fits: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let run = &rest[..rest.find(|c| !fits(c)).unwrap_or(rest.len())];
        self.at += run.len();
        run
    }

    fn skip(&mut self, text: &str) -> bool {
        let fits = self.rest().starts_with(text);
        self.at += if fits { text.len() } else { 0 };
        fits
    }

    fn no_word<T>(&self, at: usize, found: impl Into<String>, allowed: &'static str) -> Result<T, NoWord> {
        Err(NoWord { at, found: found.into(), allowed })
    }

    fn word(&mut self) -> Result<Kind, NoWord> {
        let from = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok(Kind::End) };
        if first == '\'' || first == '"' {
            return self.quoted().map(Kind::Text);
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if is_bare_char(first) {
            let name = self.run(is_bare_char).to_owned();
            return Ok(Kind::Name(name, self.path()?));
        }
        if let Some(symbol) = SYMBOLS.into_iter().find(|s| self.skip(s)) {
            return Ok(Kind::Symbol(symbol));
        }
        match FOREIGN.into_iter().find(|(sign, _)| self.rest().starts_with(sign)) {
            Some((sign, ours)) => self.no_word(from, format!("{sign:?}"), ours),
            None => self.no_word(from, format!("{first:?}"), "names, numbers, texts in quotes, and the signs == != < <= > >= + - * / % ?? ( ) ,"),
        }
    }

    /// A text in quotes; a quote inside is doubled.
    fn quoted(&mut self) -> Result<String, NoWord> {
        let from = self.at;
        let quote = &self.rest()[..1];
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(end) = self.rest().find(quote) else {
                return self.no_word(from, "a text without its end", "the same quote at both ends; inside, it is doubled");
            };
            text.push_str(&self.rest()[..end]);
            self.at += end + 1;
            if !self.skip(quote) {
                return Ok(text);
            }
            text.push_str(quote);
        }
    }

    fn number(&mut self) -> Result<Kind, NoWord> {
        const ALLOWED: &str = "a number as JSON writes it, such as 0.5 or 1e6; a field that begins with a digit stands behind value.";
        let from = self.at;
        let digits = |c: char| c.is_ascii_digit();
        self.run(digits);
        if self.skip(".") {
            self.run(digits);
        }
        if self.rest().starts_with(['e', 'E']) {
            self.at += 1;
            _ = self.skip("+") || self.skip("-");
            self.run(digits);
        }
        self.run(is_bare_char);
        let text = &self.text[from..self.at];
        let number = crate::core::json::scan(text, &mut Vec::new()).ok().and_then(|_| Number::read(text));
        number.map(Kind::Number).map_or_else(|| self.no_word(from, format!("{text:?}"), ALLOWED), Ok)
    }

    /// `.a.b[0]."c.d"`, directly behind a name.
    fn path(&mut self) -> Result<Vec<Step>, NoWord> {
        let mut steps = Vec::new();
        loop {
            let from = self.at;
            if self.skip("[") {
                let digits = self.run(|c| c.is_ascii_digit());
                match digits.parse() {
                    Ok(index) if self.skip("]") => steps.push(Step::Index(index)),
                    _ => return self.no_word(from, "an index that is none", "[0], [1], ... behind a field"),
                }
            } else if self.skip(".") {
                let name = if self.rest().starts_with('"') { self.quoted()? } else { self.run(is_bare_char).to_owned() };
                if self.at == from + 1 {
                    return self.no_word(
                        from,
                        "\".\" without a name",
                        "a name behind it: value.price; with other characters than letters, digits and _ in quotes: value.\"a.b\"",
                    );
                }
                steps.push(Step::Field(name));
            } else {
                return Ok(steps);
            }
        }
    }
}
