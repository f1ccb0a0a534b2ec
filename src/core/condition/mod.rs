//! Conditions: whether a route, or one of its writes, is applied to a record. Read, typed and checked once; stateless.
//!
//! `docs/conditions.md` is the language. An expression crate would want a context filled for each record, or values in trees
//! of its own; here a condition asks the scanned text for the one field that it compares.
//!
//! | file | concept |
//! |---|---|
//! | `mod` | a condition, and why it can't be read or applied |
//! | `lexer` | words with their places |
//! | `names` | the names there are |
//! | `parser` | the grammar and the types |
//! | [`tree`] | what a condition is once it is understood, and how it prints |
//! | [`evaluate`] | a condition asked of a record |
//! | [`number`] | numbers, exactly compared |
pub mod evaluate;
mod lexer;
mod names;
pub mod number;
mod parser;
#[cfg(test)]
mod tests;
pub mod tree;

use self::evaluate::Kind;
pub use self::evaluate::{Fields, Subject};
use self::tree::{Amount, Relation, Truth};
use super::reference::Reference;
use std::fmt;

/// A condition that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    truth: Truth,
    needs_fields: bool,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// From 1, in characters.
    pub column: usize,
    pub found: String,
    pub allowed: String,
    /// The known name that a typo was probably meant to be.
    pub nearest: Option<String>,
}

/// Why a condition can't be told of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault<'s> {
    /// See [`Fields::Unknown`].
    Unknown,
    /// None of these has anything.
    Nothing(&'s [Reference]),
    Unlike {
        reference: &'s Reference,
        found: Kind,
        needed: Kind,
    },
    /// Two things that are not alike.
    Apart {
        relation: Relation,
        reference: &'s Reference,
        found: Kind,
        with: Kind,
    },
    DivisionByZero(&'s Amount),
    TooLarge(&'s Amount),
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let (truth, needs_fields) = parser::parse(text)?;
        Ok(Self { text: text.to_owned(), truth, needs_fields })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it means.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Whether it asks for fields of the decoded value.
    pub fn needs_fields(&self) -> bool {
        self.needs_fields
    }

    /// Whether it holds of a record.
    ///
    /// # Errors
    /// It can't be told.
    #[inline]
    pub fn holds<'s>(&'s self, subject: &Subject<'s>) -> Result<bool, Fault<'s>> {
        self.truth.holds(subject)
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the value's fields can't be told"),
            Self::Nothing(references) => {
                f.write_str("the record has nothing for ")?;
                references.iter().enumerate().try_for_each(|(i, r)| write!(f, "{}{r}", if i == 0 { "" } else { " and " }))
            }
            Self::Unlike { reference, found, needed } => write!(f, "{reference} is {found} where {needed} is needed"),
            Self::Apart { relation, reference, found, with } => write!(f, "{reference} is {found}, which {relation} can't compare with {with}"),
            Self::DivisionByZero(divisor) => write!(f, "{divisor}, by which it divides, is zero"),
            Self::TooLarge(amount) => write!(f, "{amount} comes to more than 1.8e308"),
        }
    }
}
