//! What users write and read: CRDs, annotations, slim views of core objects, and the values in them.
