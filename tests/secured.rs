//! Both ends secured.
