// Package diskqueue keeps records in rolling files, first in, first out.
package diskqueue
