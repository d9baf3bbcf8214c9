// Package tool is what the command-line tools have in common: from flags to
// options, from signals to a context, from errors to an exit code; the flags that
// name sources and settings of the client library; the line that shows progress.
// What a tool does is in the package of its name below this one.
//
// A tool's command line follows package flag, its exit code is 0 after a normal
// end, --help and --version, 1 after a failure and 2 for a mistake on the command
// line. Everything but what the tool is for goes to stderr, in lines like
//
//	2026/01/02 15:04:05 text
//
// Source: tools spec, section 1.
package tool
