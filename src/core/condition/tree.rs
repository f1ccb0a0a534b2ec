//! What a condition is once it is understood: every part knows what it gives, so that no comparison of unlike things
//! can be written down. It prints as it is read.
use super::number::{Number, Operator};
use super::{Fault, Fields, Subject};
use crate::core::record::{Record, TopicPartition};
use crate::core::reference::Reference;
use std::cmp::Ordering;
use std::fmt::{self, Display, Formatter};

/// What gives true or false.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    Constant(bool),
    Field(Field<Truth>),
    Not(Box<Truth>),
    /// Two or more.
    All(Vec<Truth>),
    /// Two or more.
    Any(Vec<Truth>),
    Has(Reference),
    Numbers(Relation, Amount, Amount),
    Texts(Relation, Text, Text),
    /// Whether the two are alike.
    Truths(bool, Box<Truth>, Box<Truth>),
    /// What these are shows with each record.
    Fields(Relation, Vec<Reference>, Vec<Reference>),
    Within(Place, Text, Text),
    Matches(Text, Pattern),
}

/// What gives a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// Not below zero.
    Constant(Number),
    Field(Field<Amount>),
    Negative(Box<Amount>),
    Operation(Operator, Box<Amount>, Box<Amount>),
    Absolute(Box<Amount>),
    Length(Box<Text>),
    /// A number, or a text that is the JSON of one.
    Parsed(Field<Text>),
}

/// What gives text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    Constant(String),
    Field(Field<Text>),
    Lower(Box<Text>),
}

/// The first of some references that has something, or what stands in for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<T> {
    /// One or more.
    pub references: Vec<Reference>,
    pub default: Option<Box<T>>,
}

/// How two things compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Where one text stands in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Anywhere,
    Start,
    End,
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(pub regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Truth {
    /// Whether it holds, where no record can make a difference.
    pub fn constant(&self) -> Option<bool> {
        let known = |parts: &[Self], by: bool| {
            let parts: Vec<_> = parts.iter().map(Self::constant).collect();
            if parts.contains(&Some(by)) { Some(by) } else { parts.iter().all(Option::is_some).then_some(!by) }
        };
        match self {
            Self::Not(what) => what.constant().map(|holds| !holds),
            Self::All(parts) => known(parts, false),
            Self::Any(parts) => known(parts, true),
            _ if self.asks() => None,
            constant => of_nothing(|subject| constant.holds(subject).ok()),
        }
    }

    /// Whether it asks for anything of a record.
    fn asks(&self) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Field(_) | Self::Has(_) | Self::Fields(..) => true,
            Self::Not(what) => what.asks(),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::asks),
            Self::Numbers(_, a, b) => a.asks() || b.asks(),
            Self::Texts(_, a, b) | Self::Within(_, a, b) => a.asks() || b.asks(),
            Self::Truths(_, a, b) => a.asks() || b.asks(),
            Self::Matches(text, _) => text.asks(),
        }
    }
}

impl Amount {
    /// Why an operation comes to nothing, where that is so whatever the record.
    pub fn never(&self) -> Option<&'static str> {
        let fails = |fault: &Fault<'_>| if let Fault::DivisionByZero(_) = fault { "it always divides by zero" } else { "it is always beyond 1.8e308" };
        match self {
            Self::Operation(Operator::Over | Operator::Modulo, _, divisor)
                if !divisor.asks() && of_nothing(|subject| divisor.number(subject).is_ok_and(|n| n.cmp(&Number::Whole(0)).is_eq())) =>
            {
                Some(fails(&Fault::DivisionByZero(divisor)))
            }
            _ if self.asks() => None,
            _ => of_nothing(|subject| self.number(subject).err().as_ref().map(fails)),
        }
    }

    fn asks(&self) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Field(_) | Self::Parsed(_) => true,
            Self::Negative(what) | Self::Absolute(what) => what.asks(),
            Self::Operation(_, a, b) => a.asks() || b.asks(),
            Self::Length(text) => text.asks(),
        }
    }
}

impl Text {
    fn asks(&self) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::Field(_) => true,
            Self::Lower(text) => text.asks(),
        }
    }
}

/// Asks what asks for nothing.
fn of_nothing<T>(ask: impl FnOnce(&Subject<'_>) -> T) -> T {
    let record = Record::copy(TopicPartition::new("", 0), 0, None, None, None, []);
    ask(&Subject { record: &record, fields: Fields::None })
}

impl Relation {
    #[inline]
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }

    /// Whether it asks for more than being alike.
    pub fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::Unequal)
    }
}

impl Display for Relation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        })
    }
}

impl Display for Operator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Times => "*",
            Self::Over => "/",
            Self::Modulo => "%",
        })
    }
}

/// A part of a list, or what `not` stands before: in parentheses where it is a list.
struct Item<'t>(&'t Truth);

impl Display for Item<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            list @ (Truth::All(_) | Truth::Any(_)) => write!(f, "({list})"),
            other => other.fmt(f),
        }
    }
}

/// In parentheses where it is more than one thing.
struct Operand<'t, T>(&'t T);

impl Display for Operand<'_, Truth> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            simple @ (Truth::Constant(_) | Truth::Has(_) | Truth::Within(..) | Truth::Matches(..)) => simple.fmt(f),
            Truth::Field(field) => field.fmt(f),
            more => write!(f, "({more})"),
        }
    }
}

impl Display for Operand<'_, Amount> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            more @ Amount::Operation(..) => write!(f, "({more})"),
            simple => simple.fmt(f),
        }
    }
}

impl Display for Operand<'_, Text> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn chain(f: &mut Formatter<'_>, references: &[Reference]) -> fmt::Result {
    references.iter().enumerate().try_for_each(|(i, r)| if i == 0 { r.fmt(f) } else { write!(f, " ?? {r}") })
}

impl<T> Display for Field<T>
where
    for<'t> Operand<'t, T>: Display,
{
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        chain(f, &self.references)?;
        self.default.iter().try_for_each(|default| write!(f, " ?? {}", Operand(&**default)))
    }
}

impl Display for Truth {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut Formatter<'_>, parts: &[Truth], word: &str| {
            parts.iter().enumerate().try_for_each(|(i, part)| {
                f.write_str(if i == 0 { "" } else { word })?;
                Item(part).fmt(f)
            })
        };
        match self {
            Self::Constant(constant) => constant.fmt(f),
            Self::Field(field) => field.fmt(f),
            Self::Not(what) => write!(f, "not {}", Item(what)),
            Self::All(parts) => joined(f, parts, " and "),
            Self::Any(parts) => joined(f, parts, " or "),
            Self::Has(reference) => write!(f, "has({reference})"),
            Self::Numbers(relation, a, b) => write!(f, "{a} {relation} {b}"),
            Self::Texts(relation, a, b) => write!(f, "{a} {relation} {b}"),
            Self::Truths(alike, a, b) => write!(f, "{} {} {}", Operand(&**a), if *alike { "==" } else { "!=" }, Operand(&**b)),
            Self::Fields(relation, a, b) => {
                chain(f, a)?;
                write!(f, " {relation} ")?;
                chain(f, b)
            }
            Self::Within(place, text, part) => {
                let name = match place {
                    Place::Anywhere => "contains",
                    Place::Start => "starts_with",
                    Place::End => "ends_with",
                };
                write!(f, "{name}({text}, {part})")
            }
            Self::Matches(text, pattern) => write!(f, "matches({text}, {})", Text::Constant(pattern.0.as_str().into())),
        }
    }
}

impl Display for Amount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(number) => number.fmt(f),
            Self::Field(field) => field.fmt(f),
            Self::Negative(what) => write!(f, "-{}", Operand(&**what)),
            Self::Operation(operator, a, b) => write!(f, "{} {operator} {}", Operand(&**a), Operand(&**b)),
            Self::Absolute(what) => write!(f, "abs({what})"),
            Self::Length(text) => write!(f, "length({text})"),
            Self::Parsed(field) => write!(f, "number({field})"),
        }
    }
}

impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Field(field) => field.fmt(f),
            Self::Lower(text) => write!(f, "lower({text})"),
        }
    }
}
