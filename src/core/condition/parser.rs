//! From words to a typed tree. What each part gives is known as it is read, so that a mistake is told at its place.
//!
//! ```text
//! any   := all ("or" all)*            all  := not ("and" not)*         not := "not" not | comparison
//! comparison := sum (relation sum | "in" "(" sum ("," sum)* ")")?
//! sum   := product (("+" | "-") product)*      product := unary (("*" | "/" | "%") unary)*      unary := "-" unary | one
//! one   := number | text | "true" | "false" | "(" any ")" | function "(" any ("," any)* ")" | reference ("??" ("-" unary | one))?
//! ```
use super::Mistake;
use super::lexer::{self, Kind, NoWord, Token};
use super::names::{CALLED, FUNCTIONS, NOTHING, OPERANDS, REFERENCES, SYNONYMS};
use super::number::Operator;
use super::tree::{Amount, Field, Pattern, Place, Relation, Text, Truth};
use crate::core::decode::Step;
use crate::core::reference::{Reference, nearest};

/// How long a condition may be, in bytes, and how deep.
const LENGTH_MAX: usize = 4096;
const DEPTH_MAX: usize = 64;
/// What compiled a pattern may take, in bytes.
const PATTERN_MAX: usize = 1 << 20;

/// What is read, and what it gives.
#[derive(Clone)]
enum Typed {
    Truth(Truth),
    Amount(Amount),
    Text(Text),
    /// Whatever stands in a record.
    Field(Vec<Reference>),
}

/// A part with its place, and how deep it is.
#[derive(Clone)]
struct Part {
    typed: Typed,
    from: usize,
    to: usize,
    depth: usize,
}

/// Reads a condition; also whether it asks for fields of the value.
pub(super) fn parse(text: &str) -> Result<(Truth, bool), Mistake> {
    if text.len() > LENGTH_MAX {
        return Err(Mistake { column: 1, found: format!("{} bytes", text.len()), allowed: format!("at most {LENGTH_MAX} bytes"), nearest: None });
    }
    let column = |at: usize| text[..at].chars().count() + 1;
    let tokens = lexer::words(text).map_err(|NoWord { at, found, allowed }| Mistake { column: column(at), found, allowed: allowed.into(), nearest: None })?;
    let mut parser = Parser { text, tokens, next: 0, level: 0, compared: false, needs_fields: false };
    let whole = parser.any()?;
    let behind = parser.peek().clone();
    if behind.kind != Kind::End {
        let joint = if let Kind::Name(name, path) = &behind.kind { nearest(&["and", "or", "in"], name).filter(|_| path.is_empty()) } else { None };
        let mistake = parser.unexpected(&behind, "the end, or and, or, a comparison or arithmetic");
        return mistake.map_err(|m: Mistake| Mistake { nearest: joint.map(str::to_owned), ..m });
    }
    Ok((parser.truth(whole)?, parser.needs_fields))
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    next: usize,
    /// How many parts are being read in each other.
    level: usize,
    /// Whether the part being read is compared with one that was read.
    compared: bool,
    needs_fields: bool,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        // The last one is the end, which is never taken.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn skip(&mut self, symbol: &str) -> bool {
        let fits = matches!(self.peek().kind, Kind::Symbol(s) if s == symbol);
        self.next += usize::from(fits);
        fits
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let fits = matches!(&self.peek().kind, Kind::Name(name, path) if name == word && path.is_empty());
        self.next += usize::from(fits);
        fits
    }

    /// One of these signs, and what it stands for.
    fn skip_any<T: Copy>(&mut self, signs: &[(&str, T)]) -> Option<T> {
        signs.iter().find(|(sign, _)| self.skip(sign)).map(|(_, what)| *what)
    }

    fn mistake<T>(&self, at: usize, found: impl Into<String>, allowed: impl Into<String>) -> Result<T, Mistake> {
        Err(Mistake { column: self.text[..at].chars().count() + 1, found: found.into(), allowed: allowed.into(), nearest: None })
    }

    fn unexpected<T>(&self, token: &Token, allowed: &str) -> Result<T, Mistake> {
        let found = if token.kind == Kind::End { "the end".into() } else { format!("{:?}", &self.text[token.from..token.to]) };
        self.mistake(token.from, found, allowed)
    }

    /// Reads a part inside of another one.
    fn inside(&mut self, read: impl Fn(&mut Self) -> Result<Part, Mistake>) -> Result<Part, Mistake> {
        if self.level >= DEPTH_MAX {
            return self.too_deep(self.peek().from);
        }
        self.level += 1;
        let part = read(self);
        self.level -= 1;
        part
    }

    fn too_deep<T>(&self, at: usize) -> Result<T, Mistake> {
        self.mistake(at, "more in each other", format!("at most {DEPTH_MAX} operations in each other"))
    }

    /// A part made of others.
    fn part(&self, typed: Typed, from: usize, to: usize, depth: usize) -> Result<Part, Mistake> {
        if depth > DEPTH_MAX { self.too_deep(from) } else { Ok(Part { typed, from, to, depth }) }
    }

    fn any(&mut self) -> Result<Part, Mistake> {
        self.list("or", Self::all, Truth::Any)
    }

    fn all(&mut self) -> Result<Part, Mistake> {
        self.list("and", Self::not, Truth::All)
    }

    fn list(&mut self, word: &str, read: impl Fn(&mut Self) -> Result<Part, Mistake>, join: impl Fn(Vec<Truth>) -> Truth) -> Result<Part, Mistake> {
        let first = read(self)?;
        if !self.skip_word(word) {
            return Ok(first);
        }
        let (from, mut to, mut depth) = (first.from, first.to, first.depth);
        let mut parts = vec![self.truth(first)?];
        loop {
            let part = read(self)?;
            (to, depth) = (part.to.max(to), depth.max(part.depth));
            parts.push(self.truth(part)?);
            if !self.skip_word(word) {
                return self.part(Typed::Truth(join(parts)), from, to, depth + 1);
            }
        }
    }

    fn not(&mut self) -> Result<Part, Mistake> {
        let from = self.peek().from;
        if !self.skip_word("not") {
            return self.comparison();
        }
        let part = self.inside(Self::not)?;
        let (to, depth) = (part.to, part.depth);
        let what = self.truth(part)?;
        self.part(Typed::Truth(Truth::Not(what.into())), from, to, depth + 1)
    }

    fn comparison(&mut self) -> Result<Part, Mistake> {
        const RELATIONS: [(&str, Relation); 6] = [
            ("==", Relation::Equal),
            ("!=", Relation::Unequal),
            ("<=", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("<", Relation::Less),
            (">", Relation::Greater),
        ];
        let a = self.sum()?;
        let sign = self.peek().from;
        let whole = if self.skip_word("in") {
            self.among(&a, sign)?
        } else {
            let Some(relation) = self.skip_any(&RELATIONS) else { return Ok(a) };
            let b = self.compared(Self::sum)?;
            self.compare(relation, sign, a, b)?
        };
        let third = self.peek().clone();
        if self.skip_any(&RELATIONS).is_some() || self.skip_word("in") {
            return self.unexpected(&third, "one comparison: two of them are joined by and, such as 1 < value.x and value.x < 2");
        }
        Ok(whole)
    }

    /// Reads a part that is compared with one that was read.
    fn compared(&mut self, read: impl Fn(&mut Self) -> Result<Part, Mistake>) -> Result<Part, Mistake> {
        let outer = std::mem::replace(&mut self.compared, true);
        let part = read(self);
        self.compared = outer;
        part
    }

    /// One of several things: what is alike with any of them.
    fn among(&mut self, a: &Part, sign: usize) -> Result<Part, Mistake> {
        if !self.skip("(") {
            return self.unexpected(&self.peek().clone(), "a list in parentheses, such as value.side in ('buy', 'sell')");
        }
        let (mut all, mut depth) = (Vec::new(), 0);
        loop {
            let b = self.compared(|parser| parser.inside(Self::sum))?;
            let one = self.compare(Relation::Equal, sign, a.clone(), b)?;
            depth = depth.max(one.depth);
            all.push(self.truth(one)?);
            if !self.skip(",") {
                break;
            }
        }
        let to = self.close()?;
        match <[Truth; 1]>::try_from(all) {
            Ok([one]) => self.part(Typed::Truth(one), a.from, to, depth),
            Err(all) => self.part(Typed::Truth(Truth::Any(all)), a.from, to, depth + 1),
        }
    }

    fn compare(&self, relation: Relation, sign: usize, a: Part, b: Part) -> Result<Part, Mistake> {
        let (from, to, depth) = (a.from, b.to, 1 + a.depth.max(b.depth));
        let truth = match (&a.typed, &b.typed) {
            (Typed::Field(a), Typed::Field(b)) => Truth::Fields(relation, a.clone(), b.clone()),
            (Typed::Amount(_), _) | (_, Typed::Amount(_)) => Truth::Numbers(relation, self.amount(a)?, self.amount(b)?),
            (Typed::Text(_), _) | (_, Typed::Text(_)) => Truth::Texts(relation, self.words(a)?, self.words(b)?),
            _ if relation.orders() => return self.mistake(sign, format!("\"{relation}\" between what is true or false"), "== or !="),
            _ => Truth::Truths(relation == Relation::Equal, self.truth(a)?.into(), self.truth(b)?.into()),
        };
        self.part(Typed::Truth(truth), from, to, depth)
    }

    fn sum(&mut self) -> Result<Part, Mistake> {
        self.operations(Self::product, &[("+", Operator::Plus), ("-", Operator::Minus)])
    }

    fn product(&mut self) -> Result<Part, Mistake> {
        self.operations(Self::unary, &[("*", Operator::Times), ("/", Operator::Over), ("%", Operator::Modulo)])
    }

    fn operations(&mut self, read: impl Fn(&mut Self) -> Result<Part, Mistake>, signs: &[(&str, Operator)]) -> Result<Part, Mistake> {
        let mut a = read(self)?;
        while let Some(operator) = self.skip_any(signs) {
            let b = read(self)?;
            let (from, to, depth) = (a.from, b.to, 1 + a.depth.max(b.depth));
            let amount = Amount::Operation(operator, self.amount(a)?.into(), self.amount(b)?.into());
            if let Some(why) = amount.never() {
                return self.mistake(from, format!("{:?} ({why})", &self.text[from..to]), "a calculation that has a result");
            }
            a = self.part(Typed::Amount(amount), from, to, depth)?;
        }
        Ok(a)
    }

    fn unary(&mut self) -> Result<Part, Mistake> {
        let from = self.peek().from;
        if !self.skip("-") {
            return self.one();
        }
        let part = self.inside(Self::unary)?;
        let (to, depth) = (part.to, part.depth);
        let what = self.amount(part)?;
        self.part(Typed::Amount(Amount::Negative(what.into())), from, to, depth + 1)
    }

    fn one(&mut self) -> Result<Part, Mistake> {
        const ALLOWED: &str = "a field such as value.price, a number, a text in quotes, a function, not, or (";
        let token = self.take();
        let (from, to) = (token.from, token.to);
        let typed = match token.kind {
            Kind::Number(number) => Typed::Amount(Amount::Constant(number)),
            Kind::Text(text) => Typed::Text(Text::Constant(text)),
            Kind::Symbol("(") => {
                let mut part = self.inside(Self::any)?;
                (part.from, part.to) = (from, self.close()?);
                return Ok(part);
            }
            Kind::Symbol(_) | Kind::End => return self.unexpected(&token, ALLOWED),
            Kind::Name(ref name, ref path) => match (name.as_str(), path.is_empty()) {
                ("true" | "false", true) => Typed::Truth(Truth::Constant(name == "true")),
                ("and" | "or" | "not" | "in", true) => return self.unexpected(&token, ALLOWED),
                (_, true) if self.skip("(") => return self.function(&token, name),
                _ => {
                    let reference = self.reference(&token, name, path)?;
                    return self.field(reference, from, to);
                }
            },
        };
        self.part(typed, from, to, 0)
    }

    /// The parenthesis at an end; where that is.
    fn close(&mut self) -> Result<usize, Mistake> {
        let token = self.take();
        if token.kind == Kind::Symbol(")") { Ok(token.to) } else { self.unexpected(&token, "\")\"") }
    }

    fn reference(&mut self, token: &Token, name: &str, path: &[Step]) -> Result<Reference, Mistake> {
        let found = match (name, path) {
            ("value", [_, ..]) => {
                self.needs_fields = true;
                Some(Reference::Value(path.to_vec()))
            }
            ("header", [Step::Field(name)]) => Some(Reference::Header(name.clone())),
            (_, []) => Reference::plain(name),
            _ => None,
        };
        if let Some(reference) = found {
            return Ok(reference);
        }
        let written = &self.text[token.from..token.to];
        let near = || nearest(&OPERANDS, name).filter(|n| *n != name).map(|n| format!("{n}{}", &written[name.len()..]));
        let field = format!("value.{written}");
        let (allowed, nearest) = match name {
            "value" => ("a field behind it, such as value.price".to_owned(), None),
            "header" => ("one name behind it, such as header.venue or header.\"content-type\"".to_owned(), None),
            _ if Reference::plain(name).is_some() => (format!("{name} without anything behind it"), None),
            _ if NOTHING.contains(&name.to_lowercase().as_str()) => ("has(FIELD) where there is something, not has(FIELD) where there is nothing".into(), None),
            _ if self.compared && path.is_empty() => {
                let text = format!("'{written}'");
                (format!("{text}, in quotes, for the text; {field} for a field of that name; {REFERENCES}"), near().or(Some(text)))
            }
            _ => (format!("{field} for a field of that name; {REFERENCES}; {FUNCTIONS}"), near().or(Some(field))),
        };
        self.mistake(token.from, format!("{written:?}"), allowed).map_err(|m: Mistake| Mistake { nearest, ..m })
    }

    /// A reference and what stands in for it.
    fn field(&mut self, reference: Reference, from: usize, to: usize) -> Result<Part, Mistake> {
        let kind = match reference {
            Reference::Value(_) => None,
            Reference::Partition | Reference::Offset | Reference::Timestamp => Some(true),
            Reference::Key | Reference::Payload | Reference::Header(_) | Reference::Topic => Some(false),
        };
        let alone = |references| match kind {
            None => Typed::Field(references),
            Some(true) => Typed::Amount(Amount::Field(Field { references, default: None })),
            Some(false) => Typed::Text(Text::Field(Field { references, default: None })),
        };
        if !self.skip("??") {
            return self.part(alone(vec![reference]), from, to, 0);
        }
        let second = self.inside(if self.peek().kind == Kind::Symbol("-") { Self::unary } else { Self::one })?;
        let (end, depth) = (second.to, second.depth + 1);
        let one = vec![reference];
        let joined = |more: Vec<Reference>| one.iter().cloned().chain(more).collect::<Vec<_>>();
        let typed = match (kind, second.typed) {
            (_, Typed::Field(more)) => alone(joined(more)),
            (None | Some(true), Typed::Amount(Amount::Field(more))) => Typed::Amount(Amount::Field(Field { references: joined(more.references), ..more })),
            (None | Some(false), Typed::Text(Text::Field(more))) => Typed::Text(Text::Field(Field { references: joined(more.references), ..more })),
            (None, Typed::Truth(Truth::Field(more))) => Typed::Truth(Truth::Field(Field { references: joined(more.references), ..more })),
            (None | Some(true), Typed::Amount(a)) => Typed::Amount(Amount::Field(Field { references: one, default: Some(a.into()) })),
            (None | Some(false), Typed::Text(t)) => Typed::Text(Text::Field(Field { references: one, default: Some(t.into()) })),
            (None, Typed::Truth(t)) => Typed::Truth(Truth::Field(Field { references: one, default: Some(t.into()) })),
            (Some(number), unlike) => {
                let found = format!("{} in the place of {}", named(&unlike), if number { "a number" } else { "text" });
                return self.mistake(second.from, found, if number { "a number" } else { "text; number(...) around both makes a number of a text" });
            }
        };
        self.part(typed, from, end, depth)
    }

    fn function(&mut self, token: &Token, name: &str) -> Result<Part, Mistake> {
        let mut arguments = Vec::new();
        if !matches!(self.peek().kind, Kind::Symbol(")")) {
            loop {
                arguments.push(self.inside(Self::any)?);
                if !self.skip(",") {
                    break;
                }
            }
        }
        let to = self.close()?;
        let depth = 1 + arguments.iter().map(|a| a.depth).max().unwrap_or(0);
        let count = arguments.len();
        let mut given = arguments.into_iter();
        let place = match name {
            "contains" => Some(Place::Anywhere),
            "starts_with" => Some(Place::Start),
            "ends_with" => Some(Place::End),
            _ => None,
        };
        let typed = match (name, given.next(), given.next(), count) {
            ("has", Some(field), None, 1) => Typed::Truth(Truth::Has(self.only(field)?)),
            ("number", Some(field), None, 1) => Typed::Amount(Amount::Parsed(self.parsed(field)?)),
            ("abs", Some(number), None, 1) => Typed::Amount(Amount::Absolute(self.amount(number)?.into())),
            ("length", Some(text), None, 1) => Typed::Amount(Amount::Length(self.words(text)?.into())),
            ("lower", Some(text), None, 1) => Typed::Text(Text::Lower(self.words(text)?.into())),
            ("matches", Some(text), Some(pattern), 2) => Typed::Truth(Truth::Matches(self.words(text)?, self.pattern(&pattern)?)),
            (_, Some(text), Some(part), 2) if place.is_some() => {
                let place = place.unwrap_or(Place::Anywhere);
                Typed::Truth(Truth::Within(place, self.words(text)?, self.words(part)?))
            }
            _ => {
                let signature = FUNCTIONS.split("), ").find(|s| s.split('(').next() == Some(name)).map(|s| format!("{})", s.trim_end_matches(')')));
                if let Some(signature) = signature {
                    return self.mistake(token.from, format!("{name} of {count}"), signature);
                }
                let lower = name.to_lowercase();
                let synonym = SYNONYMS.iter().find(|(theirs, _)| *theirs == lower).map(|(_, ours)| *ours);
                let nearest = synonym.or_else(|| nearest(&CALLED, name)).map(str::to_owned);
                return self.mistake(token.from, format!("the function {name:?}"), FUNCTIONS).map_err(|m: Mistake| Mistake { nearest, ..m });
            }
        };
        self.part(typed, token.from, to, depth)
    }

    /// What may be there or not: one reference.
    fn only(&self, part: Part) -> Result<Reference, Mistake> {
        let references = match part.typed {
            Typed::Field(references)
            | Typed::Amount(Amount::Field(Field { references, default: None }))
            | Typed::Text(Text::Field(Field { references, default: None })) => references,
            _ => Vec::new(),
        };
        match <[Reference; 1]>::try_from(references) {
            Ok([reference]) => Ok(reference),
            Err(_) => self.mistake(part.from, format!("{:?}", &self.text[part.from..part.to]), format!("one of {REFERENCES}")),
        }
    }

    fn parsed(&self, part: Part) -> Result<Field<Text>, Mistake> {
        match part.typed {
            Typed::Field(references) => Ok(Field { references, default: None }),
            Typed::Text(Text::Field(field)) => Ok(field),
            other => self.mistake(
                part.from,
                named(&other),
                "a field, which may hold a number or the text of one; what stands in for it is text: number(header.n ?? '0')",
            ),
        }
    }

    fn pattern(&self, part: &Part) -> Result<Pattern, Mistake> {
        let Typed::Text(Text::Constant(text)) = &part.typed else {
            return self.mistake(part.from, named(&part.typed), "a pattern in quotes, so that it can be checked at the start");
        };
        regex::RegexBuilder::new(text).size_limit(PATTERN_MAX).build().map(Pattern).or_else(|e| {
            let why = e.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.mistake(part.from, format!("{text:?}, {why}"), "a regular expression without look-around and back-references")
        })
    }

    fn truth(&self, part: Part) -> Result<Truth, Mistake> {
        match part.typed {
            Typed::Truth(truth) => Ok(truth),
            Typed::Field(references) => Ok(Truth::Field(Field { references, default: None })),
            other => {
                self.mistake(part.from, named(&other), "what is true or false: a comparison, a field that holds true or false, has(...), contains(...), ...")
            }
        }
    }

    fn amount(&self, part: Part) -> Result<Amount, Mistake> {
        match part.typed {
            Typed::Amount(amount) => Ok(amount),
            Typed::Field(references) => Ok(Amount::Field(Field { references, default: None })),
            other => self.mistake(part.from, named(&other), "a number; number(...) makes one of a text"),
        }
    }

    fn words(&self, part: Part) -> Result<Text, Mistake> {
        match part.typed {
            Typed::Text(text) => Ok(text),
            Typed::Field(references) => Ok(Text::Field(Field { references, default: None })),
            other => self.mistake(part.from, named(&other), "text"),
        }
    }
}

fn named(typed: &Typed) -> &'static str {
    match typed {
        Typed::Truth(_) => "what is true or false",
        Typed::Amount(_) => "a number",
        Typed::Text(_) => "text",
        Typed::Field(_) => "a field",
    }
}
