package tool

// The weaknesses that the tools whose behaviour these have are known for, by their
// numbers in section 9 of the tools spec, and the tests that show them gone. Tests
// named without a package are in cmd/<tool> of the tool.
//
//	 1  nsq_to_file   SIGHUP with a work directory is fatal          TestHangup
//	 2  nsq_to_file   directories on two file systems                nsqtofile TestWorkDir
//	 3  nsq_to_file   a topic that cannot be set up: no exit code    TestOutcomes, TestMissingNSQD
//	 4  nsq_to_file   bad --consumer-opt is swallowed                TestOutcomes
//	 5  nsq_to_file   --sync-interval 0 panics                       TestOutcomes
//	 6  nsq_to_file   discovery late, and stopped by one nsqlookupd  TestDiscovery
//	 7  nsq_to_file   literals in --datetime-format are rewritten    nsqtofile TestStrftime
//	 8  nsq_to_file   skipped files leak descriptors                 nsqtofile TestSkippedFilesAreClosed
//	 9  nsq_to_file   directories are not synced                     nsqtofile TestDirectoriesAreSynced
//	10  nsq_to_file   two writes per message                         nsqtofile TestWritesAreLarge
//	11  nsq_to_file   spins after SIGTERM                            TestStopIsIdle
//	12  nsq_to_file   --work-dir ./w ends in output-dir/w            nsqtofile TestWorkDir
//	13  nsq_to_file   an invalid --topic-pattern warns for ever      TestOutcomes, TestDiscovery
//	14  consumers     the library's lines cannot be silenced         TestLibraryLog, nsq_to_file TestFinishedWhenSynced
//	15  nsq_to_*      messages are lost after five attempts          TestSettings, nsq_to_http TestNothingIsGivenUp
//	16  consumers     a connection waits at RDY 0                    go-nsq TestConsumerSharesRDY
//	17  to_nsq        the last byte is cut off                       TestDelimiters, tonsq TestRead
//	18  to_nsq        a round trip per message                       TestFarDestination
//	19  to_nsq        a failure leaves the others ahead              TestMissingDestination, TestKilledNSQD: what each
//	                                                                 destination has is told
//	20  to_nsq        no -version                                    TestOutcomes
//	21  nsq_tail      the last message is not finished               TestTail
//	22  nsq_tail      -n counts per topic                            TestTail
//	23  nsq_stat      one nsqd that is away ends it                  TestCluster
//	24  nsq_stat      an empty message for a topic without nsqd      TestOutcomes
//	25  nsq_stat      rates wrong after slow polls and restarts      nsqstat TestRates, TestCluster
//	26  nsq_stat      an interval too many before the end            TestTable
//	27  nsq_to_http   unknown --mode multiplies                      nsqtohttp TestModes: kept, with a warning; nsq_to_nsq
//	                                                                 TestFilterAndRename the same
//	28  nsq_to_http   the text on --header names another separator   TestOutcomes
//	29  nsq_to_http   GET takes 204 for a failure                    nsqtohttp TestRequests
//	30  nsq_to_http   % in a GET URL                                 nsqtohttp TestParseTemplate
//	31  nsq_to_http   two connections are kept                       nsqtohttp TestConnectionsAreKept
//	32  nsq_to_nsq    the whitelist changes values                   nsqtonsq TestFilter
//	33  nsq_to_nsq    bodies that are not JSON fill the log          TestFilterAndRename; they are still dropped, which
//	                                                                 is what a filter on JSON says
//	34  nsq_to_nsq    a missing field slows all down, then is lost   TestFilterAndRename: dropped at once, as any other
//	                                                                 message that does not match
